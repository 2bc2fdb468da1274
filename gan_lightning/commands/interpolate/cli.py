"""Walk through a generator's latents: a grid, an animation, or each picture beside its nearest training images.

python scripts/interpolate.py lightning_logs/version_0/checkpoints/last.ckpt --seeds 0,1,2,3
python scripts/interpolate.py last.ckpt --seeds 0 --class 0,1,2,3 --closed --output classes.gif
python scripts/interpolate.py last.ckpt --neighbours 5 --output neighbours.png
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.commands.arguments import arrange, given, require_new, run_command
from gan_lightning.commands.drawing_flags import add_drawing, parse_drawing, whole_numbers
from gan_lightning.commands.measuring_flags import add_real_images, without_data_arguments
from gan_lightning.errors import InputError

ENDINGS = (".png", ".gif", ".mp4")
OF_NEIGHBOURS = ("data", "extractor", "num_real", "real", "split", "weights")
"""Flags that mean something only where neighbours are looked for."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # networks of one's own are named by module and class
    return run_command("interpolate", lambda: interpolate(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line, but for the arguments of the data's class."""
    parser = ArgumentParser(
        prog="interpolate",
        description="Walk through a generator's latents, from seed to seed and from class to class.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add_drawing(parser)
    parser.add_argument("--seeds", type=str, default="0,1,2,3", help="of the points, two or more; one, where classes differ")
    parser.add_argument("--class", type=str | None, help="of all points, or one each, 0,1,2; by default every class in turn")
    parser.add_argument("--frames", type=int, default=16, help="pictures from one point to the next")
    parser.add_argument("--closed", action="store_true", help="go back to the first point at the end")
    parser.add_argument(
        "--output", type=str, default="walk.png", help="a grid .png, a row from each point to the next; or a .gif or .mp4"
    )
    parser.add_argument("--neighbours", type=int, default=0, help="show some pictures, each beside so many training images")
    add_real_images(parser)
    return parser


def interpolate(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch, and walk."""
    groups = arrange(args)
    config = _settings(groups)
    from gan_lightning.commands.interpolation import walk

    walk(config, groups)


def _settings(groups: Sequence[Sequence[str]]) -> Namespace:
    """The flags: ``seeds`` and ``class`` as lists of numbers."""
    config = parse_drawing(make_parser(), without_data_arguments(groups))
    config.seeds = whole_numbers("seeds", config.seeds)
    config["class"] = None if config["class"] is None else whole_numbers("class", config["class"])
    output = Path(config.output)
    if output.suffix not in ENDINGS:
        raise InputError(f"--output {output}: the name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if config.neighbours and output.suffix != ".png":
        raise InputError(f"--output {output}: neighbours are shown in a .png")
    for flag in OF_NEIGHBOURS:
        if not config.neighbours and given(groups, flag) is not None:
            raise InputError(f"--{flag}: only with --neighbours, which compares with real images")
    if config.real is not None and given(groups, "split") is not None:
        raise InputError(f"--split {config.split}: only --data has splits, and not --real {config.real}")
    if config.real is not None and config.data is not None and config.extractor != "classifier":
        raise InputError(f"--real {config.real} and --data {config.data}: give one (both only with --extractor classifier)")
    require_new(output)
    return config
