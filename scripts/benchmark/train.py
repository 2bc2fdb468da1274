"""Measure this project beside what else there is, in one run.

python scripts/benchmark.py metrics
python scripts/benchmark.py metrics --num_images 1000 --rounds 3 --weights weights-inception-2015-12-05-6726825d.pth
python scripts/benchmark.py train
python scripts/benchmark.py train --recipes sngan_cifar10,r3gan_cifar10_slim --batch_sizes 8 --steps 3 --output benchmark.json
python scripts/benchmark.py train --recipes dcgan_mnist --variant="--model.compile true"
python scripts/benchmark.py scale --recipes mlp_mnist --batch_sizes 16,64,256
"""

import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.commands.arguments import arrange, config_path, parse, require_writable, run_command
from gan_lightning.errors import InputError
from gan_lightning.metrics.request import FEWEST


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
    parser.add_argument(
        "what",
        type=str,
        help="metrics: beside torch-fidelity; train: beside loops written by hand; scale: over batch sizes and processes",
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run, by turns; medians are shown")
    parser.add_argument("--output", type=str | None, help="also write the figures to this JSON file")
    parser.add_argument("--num_images", type=int, default=1000, help="metrics: of the generated and of the real set")
    parser.add_argument("--weights", type=str | None, help="metrics: Inception's; by default random ones of the same layout")
    parser.add_argument(
        "--recipes",
        default="mlp_mnist,dcgan_mnist",
        help="train, scale: names, between commas; on noise",
    )
    parser.add_argument("--steps", type=int, default=250, help="train, scale: of each run, after a warm-up of at most 20")
    parser.add_argument("--batch_sizes", default="", help="train, scale: with commas between them; by default the recipe's")
    parser.add_argument(
        "--variant", default="", help='train: flags, as --variant="--model.compile true"; with and without them'
    )
    parser.add_argument("--accelerator", type=Literal["cpu", "gpu"], default="cpu", help="train, scale: where")
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch and run the benchmark."""
    config = parse(make_parser(), arrange(args))
    if config.what not in BENCHMARKS:
        raise InputError(f"there is no benchmark {config.what!r}: there is {', '.join(BENCHMARKS)}")
    config.recipes = [name for name in config.recipes.split(",") if name]
    sizes = [word for word in config.batch_sizes.split(",") if word]
    smallest = 2 if config.what == "scale" else 1
    if not all(word.isdecimal() and int(word) >= smallest for word in sizes):
        raise InputError(f"--batch_sizes {config.batch_sizes}: give whole numbers of at least {smallest}, such as 16,64,256")
    if config.what == "scale" and not all(int(word) % 2 == 0 for word in sizes):
        raise InputError(f"--batch_sizes {config.batch_sizes}: two processes halve each of them; give even numbers")
    config.batch_sizes = [int(word) for word in sizes]
    if config.variant and config.what != "train":
        raise InputError(f"--variant {config.variant}: only of train")
    config.variant = _flags(config.variant)
    for name, least in (("num_images", FEWEST["kid"]), ("rounds", 1), ("steps", 1)):
        if config[name] < least:
            raise InputError(f"--{name} {config[name]}: give at least {least:,}")
    if not config.recipes:
        raise InputError("--recipes is empty: name some, such as mlp_mnist,dcgan_mnist")
    for recipe in config.recipes:
        config_path(recipe)
    if config.output is not None:
        require_writable(Path(config.output))
    figures, text = BENCHMARKS[config.what](config)
    print(text)
    if config.output is not None:
        from gan_lightning.commands.records import write_record

        write_record(Path(config.output), figures)


def _flags(variant: str) -> list[str]:
    """The words of ``--variant``, none of which the benchmark sets itself."""
    try:
        words = shlex.split(variant)
    except ValueError as error:
        raise InputError(f"--variant {variant}: {error}; close what is opened") from error
    for word in words:
        if word.lstrip("-").removeprefix("trainer.").startswith(("max_steps", "data.batch_size", "callbacks")):
            raise InputError(f"--variant {variant}: {word} is the benchmark's own; see --steps and --batch_sizes")
    return words


def _metrics(config: Namespace) -> tuple[Any, str]:
    from gan_lightning.commands import benchmark_metrics

    with tempfile.TemporaryDirectory() as folder:
        figures = benchmark_metrics.benchmark_metrics(Path(folder), config.num_images, config.rounds, config.weights)
    return figures, benchmark_metrics.table(figures, config.num_images)


def _train(config: Namespace) -> tuple[Any, str]:
    from gan_lightning.commands import benchmark_training

    vary, scale = benchmark_training.VARY, benchmark_training.SCALE
    loops = scale if config.what == "scale" else vary if config.variant else benchmark_training.TRAIN
    sizes = config.batch_sizes or (benchmark_training.SIZES if config.what == "scale" else [None])
    cases = benchmark_training.benchmark_training(
        config.recipes, sizes, loops, config.steps, config.rounds, config.accelerator, config.variant
    )
    return cases, benchmark_training.table(cases)


BENCHMARKS: dict[str, Callable[[Namespace], tuple[Any, str]]] = {"metrics": _metrics, "train": _train, "scale": _train}
"""What can be measured -> what measures it, and returns its figures and their table."""
