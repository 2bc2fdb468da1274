"""Train recipes for the same time each and measure them beside real images: a table by distance, a record, a picture.

python scripts/compare.py
python scripts/compare.py --recipes mlp_mnist,dcgan_mnist --max_time 00:00:30:00 --accelerator gpu
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from gan_lightning import inference
from gan_lightning.checkpoint import write_aside
from gan_lightning.commands import train
from gan_lightning.commands.arguments import arrange, config_path, instantiate, parse, recipes, run_command
from gan_lightning.commands.records import process_group, versions, write_record
from gan_lightning.data import ImageDataModule
from gan_lightning.errors import InputError
from gan_lightning.measure import RealImages, make_extractor, reference
from gan_lightning.metrics.evaluator import Sample, check_request, evaluate, metric_names, protocol, split_names
from gan_lightning.trainer import last_checkpoint

METRICS = ("fid", "is", "prdc", "modes")
SHOWN = 20
"""Samples of each row in the picture."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    return run_command("compare", lambda: compare(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="compare",
        description="Train recipes for the same time each and measure them beside real images.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--recipes", type=str, default="dcgan_mnist,mlp_mnist,mlp_mnist_textbook", help="of one data set")
    parser.add_argument("--max_time", type=str, default="00:00:06:00", help="of training, each: days:hours:minutes:seconds")
    parser.add_argument("--num_images", type=int, default=10_000, help="samples of each; at most the real test images")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the latents")
    parser.add_argument("--accelerator", type=str, default="auto", help="to train on, as of train.py")
    parser.add_argument("--device", type=str, default="auto", help="to measure on, as of evaluate.py")
    parser.add_argument("--output", type=str, default="lightning_logs/compare", help="a folder; runs that are in it are kept")
    return parser


def compare(args: Sequence[str]) -> None:
    """Train what is not trained yet, measure all, write table, record and picture."""
    parser = make_parser()
    config = instantiate(parser, parse(parser, arrange(args)))
    names, output = split_names(config.recipes), Path(config.output)
    data = _data(names)
    with process_group(config.device) as device:
        real, test = RealImages.of(data, "train"), RealImages.of(data, "test")
        check_request(METRICS, config.num_images, len(real.images), real_features=True)
        if config.num_images > len(test.images):
            raise InputError(
                f"--num_images {config.num_images}: there are {len(test.images):,} real test images; give at most that"
            )
        extractor = make_extractor(data.extractor, data, None, device)
        checkpoints = {name: _trained(name, config, output) for name in names}
        samplers = {name: inference.load(path, device=device) for name, path in checkpoints.items()}
        statistics, about = reference(real, extractor, with_features=True)
        one = test.images[:1]
        sources: dict[str, Sample] = {
            "real test images": lambda indices: test.images[indices],
            **{name: sampler.by_index(real.class_counts(), config.seed) for name, sampler in samplers.items()},
            "one test image, repeated": lambda indices: one.expand(len(indices), -1, -1, -1),
        }
        rows: dict[str, dict[str, Any]] = {}
        for name, sample in sources.items():
            print(f"Measuring {name}", flush=True)
            origin = samplers[name].origin if name in samplers else {}
            rows[name] = {**origin, **evaluate(sample, statistics, extractor, METRICS, config.num_images)}
    distance = metric_names(extractor.prefix, config.num_images)["fid"]
    rows = dict(sorted(rows.items(), key=lambda row: row[1][distance]))
    record = {
        "metrics": rows,
        "protocol": {
            **about,
            "num_images": config.num_images,
            "seed": config.seed,
            "max_time": config.max_time,
            "constants": protocol(METRICS, config.num_images, len(real.images)),
            "versions": versions(),
        },
    }
    write_record(output / "compare.json", record)
    table = make_table(rows)
    with write_aside(output / "compare.md") as aside:
        aside.write_text(table, encoding="utf-8")
    shown = torch.cat([sources[name](torch.arange(SHOWN)).cpu() for name in rows])
    with write_aside(output / "compare.png") as aside:
        to_pil_image(make_grid(shown, nrow=SHOWN, padding=2, pad_value=128)).save(aside)
    print(f"\n{table}\n  table, record and picture: {output}/compare.md, .json, .png (a row for each, from the top)")


def make_table(rows: dict[str, dict[str, Any]]) -> str:
    """The values as a Markdown table, a row for each source."""
    names = [name for name in next(iter(rows.values())) if not name.endswith("_std")]
    names = ["global_step", *(name for name in names if name not in ("checkpoint", "weights", "global_step"))]
    lines = [f"| | {' | '.join(name.replace('global_step', 'updates') for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for source, values in rows.items():
        cells = [f"{values[name]:,}" if isinstance(values.get(name), int) else _number(values.get(name)) for name in names]
        lines.append(f"| {source} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _trained(name: str, config: Namespace, output: Path) -> Path:
    """The last checkpoint of a recipe's run below ``output``, which is trained now where that was not done to its end.

    Raises:
        InputError: training was refused, or the run that is there was trained otherwise.
    """
    flags = {
        "config": name,
        "max_time": config.max_time,
        "max_epochs": -1,
        "max_steps": -1,
        "accelerator": config.accelerator,
        "devices": 1,
        "seed_everything": config.seed,
        "metrics.extractor": "none",
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    done = output / name / "trained.json"
    if done.is_file():
        record = json.loads(done.read_text(encoding="utf-8"))
        if record["flags"] != words:
            raise InputError(
                f"{output / name}: was trained otherwise ({' '.join(record['flags'])}); name another folder by --output, or "
                "give the same flags"
            )
        print(f"{name} is trained: {record['checkpoint']}")
        return Path(record["checkpoint"])
    try:
        train.train([*words, "--default_root_dir", str(output / name)])
        path = last_checkpoint(output / name / "lightning_logs")
    except InputError as error:
        raise InputError(f"{name} was not trained for --max_time {config.max_time} into {output / name}: {error}") from error
    write_record(done, {"flags": words, "checkpoint": str(path)})
    return path


def _data(names: Sequence[str]) -> ImageDataModule:
    """The data set that all of the recipes are for.

    Raises:
        InputError: there are none, or they are for several.
    """
    if not names:
        raise InputError(f"--recipes is empty: name some of {', '.join(recipes())}")
    parser = train.make_parser()
    configs = [parser.parse_args(["--config", config_path(name)]) for name in names]
    if len({config.data.class_path for config in configs}) != 1:
        raise InputError(f"--recipes {','.join(names)}: they are for several data sets; name some of one")
    data: ImageDataModule = parser.instantiate(configs[0]).data
    data.prepare_data()
    return data
