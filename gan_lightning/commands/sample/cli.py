"""Draw images from a checkpoint: a grid, an array, or a folder of PNGs.

python scripts/sample.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/sample.py last.ckpt --output threes.png --class 3 --truncation 0.7
python scripts/sample.py last.ckpt --output samples.npz --num_images 50000
python scripts/sample.py last.ckpt --output samples/ --num_images 50000
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gan_lightning.commands.arguments import arrange, require_new, run_command
from gan_lightning.commands.drawing_flags import add_drawing, parse_drawing, whole_numbers
from gan_lightning.errors import InputError

OTHER_FILES = frozenset({".png", ".npz", ".npy", ".pt", ".zip", ".jpg", ".jpeg", ".webp", ".gif", ".mp4"})
"""Endings, in whatever case, by which nobody names a folder."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # networks of one's own are named by module and class
    return run_command("sample", lambda: sample(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="sample",
        description="Draw images from a checkpoint: a grid, an array, or a folder of PNGs.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add_drawing(parser)
    parser.add_argument(
        "--output",
        type=str,
        default="samples.png",
        help="a grid .png, an array (N, C, H, W) .npz, or else a folder of PNGs",
    )
    parser.add_argument("--num_images", type=int, default=64, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the latents: the same seed draws the same images")
    parser.add_argument("--class", type=str | None, help="of all images, or several, 0,1,2, in turn; by default all are")
    parser.add_argument("--columns", type=int | None, help="of the grid; by default it is about square")
    return parser


def sample(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch, and draw."""
    config = parse_drawing(make_parser(), arrange(args))
    config["class"] = None if config["class"] is None else whole_numbers("class", config["class"])
    output = Path(config.output)
    if output.suffix in (".png", ".npz"):
        require_new(output)
    elif output.suffix.lower() in OTHER_FILES:
        raise InputError(f"--output {output}: give the name of a .png, an .npz, or a folder")
    from gan_lightning.commands.sampling import draw

    draw(config)
