"""Flags that the benchmarks share."""

from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from gan_lightning.commands.common.numbers import whole_numbers
from gan_lightning.commands.common.outputs import require_writable
from gan_lightning.commands.common.recipes import config_path
from gan_lightning.commands.common.records import write_record
from gan_lightning.errors import InputError


def make_parser(script: str, description: str) -> ArgumentParser:
    """Make a parser without flags."""
    return ArgumentParser(prog=script, description=description, exit_on_error=False, allow_abbrev=False)


def add_rounds(parser: ArgumentParser) -> None:
    """Add the number of rounds and the file of the figures."""
    parser.add_argument("--rounds", type=PositiveInt, default=3, help="runs of each side, alternately; the table shows medians")
    parser.add_argument("--output", type=str | None, help="JSON file for the figures")


def add_inception(parser: ArgumentParser) -> None:
    """Add ``--inception_weights``."""
    parser.add_argument(
        "--inception_weights", type=str | None, help="Inception's weights; random ones of the same layout by default"
    )


def add_training(parser: ArgumentParser) -> None:
    """Add the flags of benchmarks that train recipes on noise."""
    parser.add_argument("--recipes", default="mlp_mnist,dcgan_mnist", help="comma-separated recipes; they train on noise")
    parser.add_argument("--steps", type=PositiveInt, default=250, help="timed steps of each run, after a warm-up of at most 20")
    parser.add_argument("--batch_sizes", default="", help="comma-separated batch sizes; the recipe's by default")
    parser.add_argument("--accelerator", type=Literal["cpu", "gpu"], default="cpu", help="device to train on")
    add_rounds(parser)


def recipe_names(config: Namespace) -> list[str]:
    """Read the names in ``--recipes``.

    Raises:
        InputError: there are none, or one does not exist.
    """
    names = [name for name in config.recipes.split(",") if name]
    if not names:
        raise InputError("--recipes is empty: use one or more, such as mlp_mnist,dcgan_mnist")
    for name in names:
        config_path(name)
    return names


def batch_sizes(config: Namespace, processes: int = 1) -> list[int]:
    """Read the numbers in ``--batch_sizes``; the list may be empty.

    Args:
        config: parsed flags.
        processes: number of processes that share a batch.

    Raises:
        InputError: a word is not a whole number above 0, or the processes cannot share it equally.
    """
    sizes = whole_numbers("batch_sizes", config.batch_sizes, least=1) if config.batch_sizes else []
    for size in sizes:
        if size % processes:
            raise InputError(
                f"--batch_sizes {config.batch_sizes} is not a multiple of {processes} processes for {size}: use multiples"
            )
    return sizes


def check_output(config: Namespace) -> None:
    """Refuse an ``--output`` that cannot be written, before anything is measured."""
    if config.output is not None:
        require_writable(Path(config.output))


def finish(config: Namespace, figures: Any, table: str) -> None:
    """Print a table, and write the figures to ``--output``."""
    print(table)
    if config.output is not None:
        write_record(Path(config.output), figures)
