"""Measure this project beside what else there is, in one run.

python scripts/benchmark.py metrics
python scripts/benchmark.py metrics --num_images 1000 --rounds 3 --weights weights-inception-2015-12-05-6726825d.pth
python scripts/benchmark.py train
python scripts/benchmark.py train --recipes mlp_mnist,dcgan_mnist --steps 200 --output benchmark.json
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from gan_lightning import checkpoint
from gan_lightning.commands import benchmark_metrics, benchmark_training
from gan_lightning.commands.arguments import arrange, config_path, instantiate, parse, run_command
from gan_lightning.commands.records import require_writable
from gan_lightning.errors import InputError
from gan_lightning.metrics.functional import KERNEL_SUBSET_SIZE


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    return run_command("benchmark", lambda: benchmark(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="benchmark",
        description="Measure this project beside what else there is, in one run.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("what", type=str, help="metrics: beside torch-fidelity; train: beside loops written by hand")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run, by turns; medians are shown")
    parser.add_argument("--output", type=str | None, help="also write the figures to this JSON file")
    parser.add_argument("--num_images", type=int, default=1000, help="metrics: of the generated and of the real set")
    parser.add_argument("--weights", type=str | None, help="metrics: Inception's; by default random ones of the same layout")
    parser.add_argument("--recipes", default="mlp_mnist,dcgan_mnist", help="train: names, with commas between them")
    parser.add_argument("--steps", type=int, default=100, help="train: of each run")
    parser.add_argument("--batch_size", type=int | None, help="train: by default the recipe's")
    parser.add_argument("--accelerator", type=Literal["cpu", "gpu"], default="cpu", help="train: where")
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Read the settings and run the benchmark."""
    parser = make_parser()
    config = instantiate(parser, parse(parser, arrange(args)))
    if config.what not in ("metrics", "train"):
        raise InputError(f"there is no benchmark {config.what!r}: there is metrics, and train")
    if config.num_images < KERNEL_SUBSET_SIZE or min(config.rounds, config.steps, config.batch_size or 1) < 1:
        given = {name: config[name] for name in ("num_images", "rounds", "steps", "batch_size")}
        said = " ".join(f"--{name} {value}" for name, value in given.items())
        raise InputError(f"{said}: give at least {KERNEL_SUBSET_SIZE} (kid), 1, 1 and 1")
    recipes = config.recipes.split(",")
    for recipe in recipes:
        config_path(recipe)
    if config.output:
        require_writable(Path(config.output))
    if config.what == "metrics":
        with tempfile.TemporaryDirectory() as folder:
            figures = benchmark_metrics.benchmark_metrics(Path(folder), config.num_images, config.rounds, config.weights)
        print(benchmark_metrics.table(figures, config.num_images))
    else:
        figures = benchmark_training.benchmark_training(
            recipes, config.batch_size, config.steps, config.rounds, config.accelerator
        )
        print(benchmark_training.table(figures))
    if config.output:
        with checkpoint.write_aside(config.output) as aside:
            aside.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
