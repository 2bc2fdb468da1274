"""Draw images from a checkpoint: a grid, an array, or a folder of PNGs.

python scripts/sample.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/sample.py last.ckpt --output threes.png --class 3 --truncation 0.7
python scripts/sample.py last.ckpt --condition smile=1,age=0.3
python scripts/sample.py last.ckpt --output samples.npz --num_images 50000
python scripts/sample.py last.ckpt --output samples/ --num_images 50000
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from gan_lightning.commands.common.arguments import arrange
from gan_lightning.commands.common.conditions import add_condition
from gan_lightning.commands.common.flags import add_drawing, add_seed, parse_drawing
from gan_lightning.commands.common.outputs import OTHER_FILES, require_new
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command."""
    add_drawing(parser)
    parser.add_argument(
        "--output",
        type=str,
        default="samples.png",
        help="a grid as .png, an array (N, C, H, W) as .npz, or else a folder of PNGs",
    )
    parser.add_argument("--num_images", type=PositiveInt, default=64, help="number of images")
    add_seed(parser)
    parser.add_argument(
        "--class", type=str | None, help="class of all images, by name or number, or several in turn, as 0,1,2; by default all"
    )
    add_condition(parser, "; sets separated by semicolons are drawn in turn, and by default those of training images")
    parser.add_argument(
        "--columns", type=PositiveInt | None, help="columns of the grid; by default one per class, or a roughly square grid"
    )


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and draw."""
    config = parse_drawing(Verb.sample.make_parser(), arrange(args))
    output = Path(config.output)
    if output.suffix in (".png", ".npz"):
        require_new(output)
    elif output.suffix.lower() in OTHER_FILES:
        raise InputError(f"--output {output} has an unsupported ending: use a .png, an .npz, or a folder")
    from gan_lightning.commands.sample.run import draw

    draw(config)
