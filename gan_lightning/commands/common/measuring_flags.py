"""Flags of real images and of measurements.

The classes of ``--data`` import torch, so :func:`gan_lightning.commands.common.real_images.make_data` parses their arguments,
``--data.X``.
"""

from argparse import SUPPRESS, Action
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from gan_lightning.commands.common.arguments import given, parse
from gan_lightning.commands.common.flags import add_accelerator, add_white
from gan_lightning.commands.common.numbers import ImageSize
from gan_lightning.errors import InputError

DATA_SETS = (
    *("ImageFolder", "HubDataset", "CIFAR10", "CIFAR100", "STL10", "CelebA", "MNIST", "FashionMNIST", "StackedMNIST", "Digits"),
    *("PairedFolders", "UnpairedFolders", "Derived"),
)
"""The bundled data classes, for ``--help``."""
IMAGE_FILES = (".npy", ".npz", ".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tgz", ".zip")
"""Suffixes of files with many images."""


def add_real_images(parser: ArgumentParser) -> None:
    """Add the flags of the real images and the extractor."""
    parser.add_argument(
        "--extractor", type=str | None, help="feature extractor: inception, imagenet, classifier, or the class path of a module"
    )
    parser.add_argument("--inception_weights", type=str | None, help="file of Inception's weights")
    parser.add_argument("--real", type=str | None, help="folder, .npy, .npz, .zip or .tar of real images; it has no splits")
    parser.add_argument(
        "--data.help",
        action=_DataHelp,
        nargs="?",
        default=SUPPRESS,
        metavar="CLASS",
        help="show the arguments --data.X of the data class CLASS, and exit",
    )
    parser.add_argument(
        "--data",
        type=str | None,
        help=f"real data: {', '.join(DATA_SETS)}, or a class path; by default the training data of the run",
    )
    parser.add_argument("--split", type=Literal["train", "test"], default="train", help="split of the real data")
    parser.add_argument("--num_real", type=PositiveInt | None, help="number of real images; by default all")
    add_white(parser, "a folder's images")
    parser.add_argument("--skip_corrupt", action="store_true", help="skip files of a folder that cannot be read")


def add_measuring(parser: ArgumentParser) -> None:
    """Add the flags of a measurement: real images, extractor, shape of a folder's images, batch size and device."""
    add_real_images(parser)
    parser.add_argument(
        "--image_size",
        type=ImageSize | None,
        help="size of a folder's images in pixels, such as 64, or 96x64 (height, width); by default their most frequent size",
    )
    parser.add_argument(
        "--channels",
        type=Literal[1, 3] | None,
        help="1 to read a folder's images as grey, 3 as colour; by default colour if any of them has colour",
    )
    parser.add_argument("--batch_size", type=PositiveInt, default=50, help="images per batch")
    add_accelerator(parser)


class _DataHelp(Action):
    """Print the help of ``--data.help``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        from gan_lightning.commands.common.real_images import make_data  # imports torch, as the classes do

        make_data([[f"--{self.dest}", *([values] if values else [])]])


def parse_flags(parser: ArgumentParser, groups: Sequence[Sequence[str]]) -> Namespace:
    """Parse the groups of ``arrange``, except the arguments ``--data.X``; ``data`` is the text of ``--data``.

    Raises:
        InputError: a flag is misspelt, of the wrong type, or out of range.
    """
    return parse(parser, without_data_arguments(groups))


def check_real_images(config: Namespace, groups: Sequence[Sequence[str]]) -> None:
    """Refuse several sources of real images, other files, and ``--split`` for a source without splits.

    Raises:
        InputError: more than one of ``--real``, ``--reference`` and ``--data`` is given, ``--real`` is a file of another kind,
            or ``--split`` is given with one of the first two.
    """
    if config.real is not None and Path(config.real).is_file() and not is_image_set(Path(config.real)):
        raise InputError(f"--real {config.real} is a single file: use a folder, .npy, .npz, .zip or .tar of images")
    named = [f"--{flag} {config[flag]}" for flag in ("real", "reference", "data") if config.get(flag) is not None]
    if len(named) > 1 and not (config.data is not None and config.extractor == "classifier"):
        raise InputError(f"{' and '.join(named)}: use one of them. --data goes with another only for --extractor classifier")
    if given(groups, "split") is not None and named and not named[0].startswith("--data"):
        raise InputError(f"--split {config.split}: only --data has splits; {named[0]} has none")


def check_shape_flags(config: Namespace, folder: bool, reads_folder: bool, example: str) -> None:
    """Refuse ``--image_size``, ``--channels``, ``--white`` and ``--skip_corrupt`` if there is no folder that they are for.

    Args:
        config: the flags.
        folder: True if the first two apply.
        reads_folder: True if the last two apply.
        example: what the flags are for.

    Raises:
        InputError: one of them does not apply.
    """
    applies = {"image_size": folder, "channels": folder, "white": reads_folder, "skip_corrupt": reads_folder}
    for flag in applies:
        if (value := config.get(flag)) and not applies[flag]:
            raise InputError(f"--{flag}{'' if value is True else f' {value}'} is for {example}: remove the flag")


def without_data_arguments(groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Leave out ``--data.X``, each with its value."""
    others = []
    for group in groups:
        is_argument = group[0].startswith("--data.") and group[0].partition("=")[0] != "--data.help"
        others.append(group[_length(group) :] if is_argument else group)  # a word after the value is not part of it
    return others


def is_image_set(source: Path) -> bool:
    """Check if a source is a folder or file of images; otherwise it is a generator: a checkpoint, or a folder of export.py."""
    if source.is_file():
        return source.name.lower().endswith(IMAGE_FILES)
    return source.is_dir() and not (source / "config.json").is_file()


def data_flags(groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Keep only ``--data`` and ``--data.X``, each with its value."""
    return [group[: _length(group)] for group in groups if group[0].partition("=")[0].partition(".")[0] == "--data"]


def _length(group: Sequence[str]) -> int:
    """Count the words of a flag and its one value."""
    return 1 if "=" in group[0] else 2
