"""The flags of real images and of what measures them, which several commands have; torch is not imported for them.

The classes of ``--data`` cannot be had without it, so that their arguments, ``--data.X``, are left to
:func:`gan_lightning.commands.real_images.make_data`.
"""

from argparse import SUPPRESS, Action
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.commands.arguments import add_device, parse
from gan_lightning.errors import InputError

DATA_SETS = ("CIFAR10", "MNIST", "FashionMNIST", "StackedMNIST", "Digits", "ImageFolder")
"""The classes that ship, for ``--help``."""


def add_real_images(parser: ArgumentParser) -> None:
    """The flags of the real images and the extractor."""
    parser.add_argument("--extractor", type=str | None, help="inception, imagenet, classifier, or the class path of a module")
    parser.add_argument("--weights", type=str | None, help="the file of Inception's weights")
    parser.add_argument("--real", type=str | None, help="a folder of real images, all of it")
    parser.add_argument(
        "--data.help",
        action=_DataHelp,
        nargs="?",
        default=SUPPRESS,
        metavar="CLASS",
        help="show the arguments --data.X of a class of data, and exit",
    )
    parser.add_argument(
        "--data",
        type=str | None,
        help=f"the real data, by default what the run was trained on: {', '.join(DATA_SETS)}, or a class path",
    )
    parser.add_argument("--split", type=Literal["train", "test"], default="train", help="of the real data")
    parser.add_argument("--num_real", type=int | None, help="how many real images; by default all")


def add_measuring(parser: ArgumentParser) -> None:
    """The flags of a measurement: real images, extractor, the size to look at them in, and where."""
    add_real_images(parser)
    parser.add_argument("--image_size", type=int | None, help="of a folder's images; by default that of its first one")
    parser.add_argument("--batch_size", type=int, default=50, help="images at a time")
    add_device(parser)


class _DataHelp(Action):
    """What ``--data.help`` does."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        from gan_lightning.commands.real_images import make_data  # the one help that needs the classes

        make_data([[f"--{self.dest}", *([values] if values else [])]])


def parse_flags(parser: ArgumentParser, groups: Sequence[Sequence[str]]) -> Namespace:
    """Parse what ``arrange`` returned, but for the arguments ``--data.X``; ``data`` is the text of ``--data``.

    Raises:
        InputError: one is misspelt, of the wrong type, or out of range.
    """
    config = parse(parser, without_data_arguments(groups))
    for name in ("num_real", "image_size", "batch_size"):
        if config[name] is not None and config[name] < 1:
            raise InputError(f"--{name} {config[name]}: give at least 1")
    return config


def without_data_arguments(groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """All but ``--data.X``, each with its value."""
    others = []
    for group in groups:
        is_argument = group[0].startswith("--data.") and group[0].partition("=")[0] != "--data.help"
        others.append(group[_length(group) :] if is_argument else group)  # a word that follows the value is no part of it
    return others


def is_image_folder(source: Path) -> bool:
    """Whether what is to be measured is a folder of images, and not a generator: a checkpoint, or a folder of export.py."""
    return source.is_dir() and not (source / "config.json").is_file()


def data_flags(groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """``--data`` and ``--data.X`` alone, each with its value."""
    return [group[: _length(group)] for group in groups if group[0].partition("=")[0].partition(".")[0] == "--data"]


def _length(group: Sequence[str]) -> int:
    """How many words a flag that takes one value is, with that value."""
    return 1 if "=" in group[0] else 2
