"""Translate images by a checkpoint of a translation: a file, a folder, or an array.

python scripts/translate.py lightning_logs/version_0/checkpoints/last.ckpt photo.jpg
python scripts/translate.py last.ckpt photos/ --output translated/
python scripts/translate.py last.ckpt photo.jpg --mask mask.png --output filled.png
python scripts/translate.py last.ckpt large.tif --tile 512 --overlap 64
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from gan_lightning.commands.common.arguments import arrange
from gan_lightning.commands.common.flags import add_accelerator, add_weights, add_white, parse_drawing
from gan_lightning.commands.common.outputs import OTHER_FILES, require_new, require_replaceable
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError

ARRAYS = (".npy", ".npz")


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command."""
    parser.add_argument(
        "checkpoint", type=str, help="a checkpoint of a translation, a folder of export.py, or owner/name on the Hub"
    )
    parser.add_argument("input", type=str, help="an image file, a folder of images, or an array as .npy or .npz")
    add_weights(parser)
    add_accelerator(parser)
    parser.add_argument(
        "--output",
        type=str | None,
        help="a .png for a file, a folder for a folder, an .npz for an array; by default translated.png, translated or "
        "translated.npz",
    )
    parser.add_argument("--overwrite", action="store_true", help="translate again and replace outputs that exist")
    parser.add_argument(
        "--direction",
        type=Literal["AtoB", "BtoA"] | None,
        help="for CycleGAN: from sources to targets (AtoB, the default), or back",
    )
    parser.add_argument(
        "--mask",
        type=str | None,
        help="for a model that fills in holes: an image that is white where pixels are missing, or a folder of masks with the "
        "names of the images",
    )
    parser.add_argument(
        "--degrade",
        action="store_true",
        help="make the sources from the images as in training, for example line drawings from photographs",
    )
    parser.add_argument(
        "--tile", type=PositiveInt | None, help="translate in overlapping tiles with sides of so many pixels of the input"
    )
    parser.add_argument("--overlap", type=NonNegativeInt, default=32, help="pixels that neighbouring tiles share")
    parser.add_argument(
        "--batch_size", type=PositiveInt, default=64, help="images of one size per batch; large ones make smaller batches"
    )
    parser.add_argument("--skip_corrupt", action="store_true", help="skip files of a folder that cannot be read")
    add_white(parser, "images")


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and translate."""
    config = _settings(args)
    from gan_lightning.commands.translate.run import translate

    translate(config)


def _settings(args: Sequence[str]) -> Namespace:
    """Read the flags; ``output`` gets its default."""
    config = parse_drawing(Verb.translate.make_parser(), arrange(args))
    source = Path(config.input)
    if not source.exists():
        raise InputError(f"{source} does not exist: use an image file, a folder of images, or an .npy or .npz")
    if config.tile is not None and config.tile <= config.overlap:
        raise InputError(
            f"--tile {config.tile} is not larger than --overlap {config.overlap}: use larger tiles or less overlap"
        )
    ending = "" if source.is_dir() else ".npz" if source.suffix.lower() in ARRAYS else ".png"
    config.output = config.output or f"translated{ending}"
    output = Path(config.output)
    if ending and output.suffix != ending:
        raise InputError(f"--output {output} does not end in {ending}, as it must for {source}: use such a name")
    if ending and config.overwrite:
        require_replaceable(output, [source])
    elif ending:
        require_new(output, otherwise="replace it with --overwrite")
    elif output.suffix.lower() in OTHER_FILES or output.is_file():
        raise InputError(f"--output {output} is not a folder, but {source} is one: use the name of a folder")
    elif output.resolve().is_relative_to(source.resolve()):
        raise InputError(f"--output {output} is inside the input {source}: use a folder outside it")
    if config.skip_corrupt and ending:
        raise InputError(f"--skip_corrupt is for folders, but {source} is a file: remove the flag")
    _check_mask(config, source)
    return config


def _check_mask(config: Namespace, source: Path) -> None:
    """Refuse a mask that does not exist, or that cannot belong to the input.

    Raises:
        InputError: there is such a mask.
    """
    if config.mask is None:
        return
    mask = Path(config.mask)
    if not mask.exists():
        raise InputError(f"--mask {mask} does not exist: use an image that is white where pixels are missing")
    if mask.is_dir() and not source.is_dir():
        raise InputError(f"--mask {mask} is a folder, but {source} is a file: use a mask as a file")
    if config.degrade:
        raise InputError("--mask and --degrade exclude each other, because --degrade makes holes itself: use one of them")
