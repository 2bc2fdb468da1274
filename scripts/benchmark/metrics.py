"""Compare FID, IS and KID on the CPU with torch-fidelity's: speed and values.

python scripts/benchmark/metrics.py
python scripts/benchmark/metrics.py --num_images 1000 --rounds 3 --inception_weights weights-inception-2015-12-05-6726825d.pth
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

import command_line
from gan_lightning.commands.common.arguments import arrange, parse
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.errors import InputError
from gan_lightning.metrics.evaluator import compute
from gan_lightning.metrics.inception import Inception
from gan_lightning.metrics.statistics import Sums
from gan_lightning.metrics.table import check_request
from random_inception import varied_images, write_random_weights

METRICS = ("fid", "is", "kid")


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 for bad input."""
    return run_command("benchmark/metrics.py", lambda: benchmark(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """Make the parser of all flags."""
    parser = command_line.make_parser("benchmark/metrics.py", "Compare FID, IS and KID on the CPU with torch-fidelity's.")
    parser.add_argument("--num_images", type=PositiveInt, default=1000, help="images in the generated and in the real set")
    command_line.add_inception(parser)
    command_line.add_rounds(parser)
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Check the flags, time both projects, and print their table."""
    config = parse(make_parser(), arrange(args))
    check_request(METRICS, config.num_images, config.num_images, real_features=True)
    command_line.check_output(config)
    with tempfile.TemporaryDirectory() as folder:
        figures = compare(Path(folder), config.num_images, config.rounds, config.inception_weights)
    command_line.finish(config, figures, table(figures, config.num_images))


def compare(folder: Path, num_images: int, rounds: int, weights: str | None) -> dict[str, Any]:
    """Time FID, IS and KID of the same PNG files with the same weights: whole commands, and their parts.

    Both commands find the statistics of the real images in their caches: an untimed first run of each fills them.

    Returns:
        {"ours" and "torch-fidelity": {part: [seconds of each round]}, "values": {project: {metric: value}}}
    """
    path = Path(weights) if weights else folder / "weights.pth"
    if not weights:
        write_random_weights(path)
    sets = {name: varied_images(num_images, seed) for seed, name in enumerate(("generated", "real"), start=1)}
    for name, images in sets.items():
        (folder / name).mkdir()
        for number, image in enumerate(images):
            to_pil_image(image).save(folder / name / f"{number:06d}.png")
    record, cache = folder / "record.json", folder / "torch_fidelity"
    ours = [
        *(sys.executable, str(Path(__file__).resolve().parents[1] / "evaluate.py"), str(folder / "generated")),
        *("--real", str(folder / "real"), "--metrics", ",".join(METRICS)),
        *("--extractor", "inception", "--inception_weights", str(path), "--accelerator", "cpu", "--output", str(record)),
    ]
    theirs = [
        *(str(Path(sys.executable).with_name("fidelity")), "--cpu", "--isc", "--fid", "--kid", "--json", "--silent"),
        *("--input1", str(folder / "generated"), "--input2", str(folder / "real")),
        *("--feature-extractor-weights-path", str(path), "--cache-root", str(cache), "--input2-cache-name", "real"),
    ]
    environment = {**os.environ, "GAN_LIGHTNING_DATA": str(folder / "cache")}
    commands = {"ours": ours, "torch-fidelity": theirs}
    seconds: dict[str, dict[str, list[float]]] = {who: {} for who in commands}
    values: dict[str, dict[str, float]] = {}
    parts = _parts(path, sets["generated"])
    for number in tqdm(range(rounds + 1), desc="Rounds, the first untimed"):
        for who, command in commands.items():
            begun = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            spent = time.perf_counter() - begun
            if done.returncode != 0:
                raise InputError(f"{who} failed: {done.stderr.strip().splitlines()[-1][:300] if done.stderr else 'no reason'}")
            measured = (
                json.loads(record.read_text())["metrics"]
                if who == "ours"
                else json.loads(done.stdout[done.stdout.index("{") :])
            )
            values[who] = {name: float(value) for name, value in measured.items()}
            if number:
                seconds[who].setdefault("whole command", []).append(spent)
        if number:
            for who, make in parts.items():
                for part, spent in make().items():
                    seconds[who].setdefault(part, []).append(spent)
    return {**seconds, "values": values}


def _parts(weights: Path, images: Tensor) -> dict[str, Callable[[], dict[str, float]]]:
    """Make a function for each project that times its parts on images in memory: extraction of one batch, and the rest."""
    inception = Inception(weights)
    theirs = fidelity.FeatureExtractorInceptionV3("", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights))
    batch, count = images[:50], len(images)
    random = torch.Generator().manual_seed(0)
    features = torch.rand(count, 2048, generator=random)
    logits = torch.randn(count, 1008, generator=random)
    sums = Sums(count, 2048, 1008, torch.device("cpu"))
    sums.update(torch.arange(count), torch.rand(count, 2048, generator=random), logits)
    real = sums.statistics(torch.rand(count, 2048, generator=random))
    real_theirs = {"mu": real.mean.float().numpy(), "sigma": real.covariance.numpy()}

    def timed(make: Callable[[], Any]) -> float:
        begun = time.perf_counter()
        make()
        return time.perf_counter() - begun

    def algebra() -> None:
        sums = Sums(count, 2048, 1008, torch.device("cpu"))
        sums.update(torch.arange(count), features, logits)
        compute(sums.statistics(features), real, "", METRICS)

    def algebra_theirs() -> None:
        isc_features_to_metric(logits)
        fid_statistics_to_metric(fid_features_to_statistics(features), real_theirs, False)
        kid_features_to_metric(features, real.features, verbose=False)

    scale = count / len(batch)
    extraction, rest = f"extraction (of {len(batch)}, scaled)", "linear algebra"
    return {
        "ours": lambda: {extraction: timed(lambda: inception(batch)) * scale, rest: timed(algebra)},
        "torch-fidelity": lambda: {extraction: timed(lambda: theirs(batch)) * scale, rest: timed(algebra_theirs)},
    }


def table(figures: dict[str, Any], num_images: int) -> str:
    """A Markdown table: medians in seconds with minimum and maximum, and the ratio of the medians."""
    ours, theirs = figures["ours"], figures["torch-fidelity"]
    lines = [f"| FID + IS + KID, {num_images:,} images, seconds | ours | torch-fidelity | ratio |", "|---|---|---|---|"]
    for part in ours:
        cells = [
            f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})" for times in (ours[part], theirs[part])
        ]
        ratio = statistics.median(theirs[part]) / statistics.median(ours[part])
        lines.append(f"| {part} | {' | '.join(cells)} | {ratio:.2f} |")
    values = figures["values"]
    lines += ["", *(f"{who}: {', '.join(f'{name} {value:.8g}' for name, value in values[who].items())}" for who in values)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
