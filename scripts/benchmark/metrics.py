"""FID, IS and KID on the CPU, beside torch-fidelity: speed and values."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm

from gan_lightning import checkpoint
from gan_lightning.errors import InputError
from gan_lightning.metrics.evaluator import compute
from gan_lightning.metrics.inception import Inception, inception_v3
from gan_lightning.metrics.statistics import Sums

METRICS = ("fid", "is", "kid")


def benchmark_metrics(folder: Path, num_images: int, rounds: int, weights: str | None) -> dict[str, Any]:
    """FID, IS and KID of the same PNG files with the same weights: whole commands, and their parts, in seconds.

    Both commands find the statistics of the real images in their caches: a first run of each, which is not counted, puts
    them there.

    Returns:
        {"ours" and "torch-fidelity": {part: [seconds of each round]}, "values": {who: {metric: value}}}
    """
    path = Path(weights) if weights else folder / "weights.pth"
    if not weights:
        write_random_weights(path)
    sets = {name: varied_images(num_images, seed) for seed, name in enumerate(("generated", "real"), start=1)}
    for name, images in sets.items():
        (folder / name).mkdir()
        for number, image in enumerate(images):
            to_pil_image(image).save(folder / name / f"{number:06d}.png")
    scripts = Path(sys.executable).parent
    record, cache = folder / "record.json", folder / "torch_fidelity"
    ours = [
        *(sys.executable, "-c", "import sys; from gan_lightning.commands.evaluate import main; sys.exit(main())"),
        *(str(folder / "generated"), "--real", str(folder / "real"), "--metrics", ",".join(METRICS)),
        *("--extractor", "inception", "--weights", str(path), "--device", "cpu", "--output", str(record)),
    ]
    theirs = [
        *(str(scripts / "fidelity"), "--cpu", "--isc", "--fid", "--kid", "--json", "--silent"),
        *("--input1", str(folder / "generated"), "--input2", str(folder / "real")),
        *("--feature-extractor-weights-path", str(path), "--cache-root", str(cache), "--input2-cache-name", "real"),
    ]
    environment = {**os.environ, "GAN_LIGHTNING_DATA": str(folder / "cache")}
    commands = {"ours": ours, "torch-fidelity": theirs}
    seconds: dict[str, dict[str, list[float]]] = {who: {} for who in commands}
    values: dict[str, dict[str, float]] = {}
    parts = _parts(path, sets["generated"])
    for number in tqdm(range(rounds + 1), desc="Rounds, the first to fill the caches"):
        for who, command in commands.items():
            begun = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            spent = time.perf_counter() - begun
            if done.returncode != 0:
                raise InputError(f"{who} failed: {done.stderr.strip().splitlines()[-1][:300] if done.stderr else 'no reason'}")
            said = (
                json.loads(record.read_text())["metrics"]
                if who == "ours"
                else json.loads(done.stdout[done.stdout.index("{") :])
            )
            values[who] = {name: float(value) for name, value in said.items()}
            if number:
                seconds[who].setdefault("whole command", []).append(spent)
        if number:
            for who, make in parts.items():
                for part, spent in make().items():
                    seconds[who].setdefault(part, []).append(spent)
    return {**seconds, "values": values}


def _parts(weights: Path, images: Tensor) -> dict[str, Callable[[], dict[str, float]]]:
    """For each of the two, what times its parts on images that are in memory: extraction of one batch, and the rest."""
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
    """Medians and spread in seconds, and the ratio of the medians, as Markdown."""
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


def varied_images(count: int, seed: int, size: int = 32) -> Tensor:
    """Random smooth colour patterns of many scales and contrasts, uint8 (count, 3, size, size): as unlike as photographs."""
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 1, 1, generator=random)
    for scale in (2, 4, 8, 16, 32):
        pattern = torch.randn(count, 3, scale, scale, generator=random)
        contrast = torch.rand(count, 1, 1, 1, generator=random) / 4
        images = images + contrast * interpolate(pattern, size=size, mode="bilinear", align_corners=False)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def write_random_weights(path: Path, seed: int = 0) -> None:
    """Write random weights in the layout of torch-fidelity's Inception file, with which the whole pipeline runs offline.

    Batch norms are calibrated on :func:`varied_images` and shifted by one, so that most units are active and rounding is
    not amplified from layer to layer; logits are scaled to a spread over images of 2, so that scores are not trivial.
    Default initialisation gives a FID of 1e-15 and a score of 1: it tests nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = inception_v3()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.bias.fill_(1.0)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.normal_(module.bias, std=0.02)
    images = interpolate(varied_images(32, seed).float(), size=299, mode="bilinear").sub(128).div(128)
    network.train()(images)
    network.eval()
    logits = network(images)  # (32, 1008)
    for name, parameter in network.named_parameters():
        if name == "fc.weight":
            parameter.mul_(2 / logits.std(0).mean())
    checkpoint.save(network.state_dict(), path)
