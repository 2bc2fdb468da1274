"""Walk through a generator's latents: a grid, an animation, or each picture next to its nearest training images.

python scripts/interpolate.py lightning_logs/version_0/checkpoints/last.ckpt --seeds 0,1,2,3
python scripts/interpolate.py last.ckpt --seeds 0 --class 0,1,2,3 --closed --output classes.gif
python scripts/interpolate.py last.ckpt --seeds 0 --condition "age=0.2;age=0.8"
python scripts/interpolate.py last.ckpt --neighbours 5 --output neighbours.png
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from gan_lightning.commands.common.arguments import arrange, given
from gan_lightning.commands.common.conditions import add_condition
from gan_lightning.commands.common.flags import add_drawing, parse_drawing
from gan_lightning.commands.common.measuring_flags import (
    add_real_images,
    check_real_images,
    check_shape_flags,
    without_data_arguments,
)
from gan_lightning.commands.common.numbers import whole_numbers
from gan_lightning.commands.common.outputs import require_new
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError

ENDINGS = (".png", ".gif", ".mp4")
OF_NEIGHBOURS = ("data", "extractor", "inception_weights", "num_real", "real", "skip_corrupt", "split", "white")
"""Flags that need ``--neighbours``."""


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command, except the arguments of the data's class."""
    add_drawing(parser)
    parser.add_argument(
        "--seeds",
        type=str,
        default="0,1,2,3",
        help="comma-separated seeds of the points, at least two; one is enough for several classes or conditions",
    )
    parser.add_argument(
        "--class",
        type=str | None,
        help="class of all points, by name or number, or a class for each, as 0,1,2; by default all in turn",
    )
    add_condition(parser, "; or of each point, separated by semicolons; by default those of training images")
    parser.add_argument("--frames", type=PositiveInt, default=16, help="number of pictures from one point to the next")
    parser.add_argument("--closed", action="store_true", help="return to the first point at the end")
    parser.add_argument(
        "--output",
        type=str,
        default="walk.png",
        help="a grid as .png with a row from each point to the next, or a .gif or .mp4",
    )
    parser.add_argument(
        "--neighbours", type=NonNegativeInt, default=0, help="number of nearest training images to show next to some pictures"
    )
    add_real_images(parser)


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and walk."""
    groups = arrange(args)
    config = _settings(groups)
    from gan_lightning.commands.interpolate.run import walk

    walk(config, groups)


def _settings(groups: Sequence[Sequence[str]]) -> Namespace:
    """Read the flags: ``seeds`` and ``class`` as lists of numbers."""
    config = parse_drawing(Verb.interpolate.make_parser(), without_data_arguments(groups))
    config.seeds = whole_numbers("seeds", config.seeds)
    output = Path(config.output)
    if output.suffix not in ENDINGS:
        raise InputError(f"--output {output}: the name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if config.neighbours and output.suffix != ".png":
        raise InputError(f"--output {output}: --neighbours writes a .png. Use a name that ends in .png")
    for flag in OF_NEIGHBOURS:
        if not config.neighbours and given(groups, flag) is not None:
            raise InputError(f"--{flag} needs --neighbours, because nothing else compares with real images: add --neighbours")
    check_real_images(config, groups)
    check_shape_flags(
        config, False, config.real is not None, "the folder of --real (for --data: --data.white, --data.skip_corrupt)"
    )
    require_new(output)
    return config
