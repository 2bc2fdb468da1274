"""What the benchmarks' command lines share."""

from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from gan_lightning.commands.arguments import config_path, require_writable
from gan_lightning.commands.records import write_record
from gan_lightning.errors import InputError


def make_parser(script: str, description: str) -> ArgumentParser:
    """Make a parser without flags."""
    return ArgumentParser(prog=script, description=description, exit_on_error=False, allow_abbrev=False)


def add_rounds(parser: ArgumentParser) -> None:
    """Add the flags of what is repeated and recorded."""
    parser.add_argument("--rounds", type=PositiveInt, default=3, help="runs of each side, alternately; medians are printed")
    parser.add_argument("--output", type=str | None, help="write the figures to this JSON file too")


def add_inception(parser: ArgumentParser) -> None:
    """Add the flag of what runs Inception."""
    parser.add_argument("--weights", type=str | None, help="Inception's weights; random ones of the same layout by default")


def add_training(parser: ArgumentParser) -> None:
    """Add the flags of what trains recipes on noise."""
    parser.add_argument("--recipes", default="mlp_mnist,dcgan_mnist", help="comma-separated recipes; they train on noise")
    parser.add_argument("--steps", type=PositiveInt, default=250, help="timed steps of each run, after a warm-up of at most 20")
    parser.add_argument("--batch_sizes", default="", help="comma-separated batch sizes; the recipe's by default")
    parser.add_argument("--accelerator", type=Literal["cpu", "gpu"], default="cpu", help="device to train on")
    add_rounds(parser)


def recipe_names(config: Namespace) -> list[str]:
    """The names in ``--recipes``.

    Raises:
        InputError: there are none, or one does not exist.
    """
    names = [name for name in config.recipes.split(",") if name]
    if not names:
        raise InputError("--recipes is empty: name some, such as mlp_mnist,dcgan_mnist")
    for name in names:
        config_path(name)
    return names


def batch_sizes(config: Namespace, processes: int = 1) -> list[int]:
    """The numbers in ``--batch_sizes``.

    Args:
        config: parsed flags.
        processes: number of processes that share a batch.

    Raises:
        InputError: one is no whole number above 0, or cannot be shared equally.
    """
    words = [word for word in config.batch_sizes.split(",") if word]
    if not all(word.isdecimal() and int(word) and int(word) % processes == 0 for word in words):
        multiples = f" that {processes} processes can share equally" if processes > 1 else ""
        raise InputError(f"--batch_sizes {config.batch_sizes}: use whole numbers above 0{multiples}, such as 16,64,256")
    return [int(word) for word in words]


def check_output(config: Namespace) -> None:
    """Refuse an ``--output`` that cannot be written, before anything is measured."""
    if config.output is not None:
        require_writable(Path(config.output))


def finish(config: Namespace, figures: Any, table: str) -> None:
    """Print a table, and write the figures to ``--output``."""
    print(table)
    if config.output is not None:
        write_record(Path(config.output), figures)
