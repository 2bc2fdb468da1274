"""Find the latent of an image: what the generator can draw of it, fill in a hole, or sharpen a small one.

python scripts/invert.py lightning_logs/version_0/checkpoints/last.ckpt digit.png
python scripts/invert.py last.ckpt digit.png --hole 6,6,12,12 --output inpainted.png
python scripts/invert.py last.ckpt digit.png --super_resolution 4 --output super_resolution.png
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.commands.arguments import add_device, arrange, require_new, run_command
from gan_lightning.commands.drawing_flags import add_checkpoint, parse_drawing, whole_numbers
from gan_lightning.errors import InputError


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # networks of one's own are named by module and class
    return run_command("invert", lambda: invert(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="invert",
        description="Find the latent whose image comes nearest to a given one.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add_checkpoint(parser)
    add_device(parser)
    parser.add_argument("image", type=str, help="a file; it is brought to the generator's size where it has another")
    parser.add_argument(
        "--output", type=str, default="inverted.png", help="a .png: the target, what is known of it, the result"
    )
    parser.add_argument("--mask", type=str | None, help="an image that is white where the target is not known")
    parser.add_argument("--hole", type=str | None, help="TOP,LEFT,HEIGHT,WIDTH, in pixels, where the target is not known")
    parser.add_argument(
        "--super_resolution", type=int | None, help="the target is so many times smaller than the generator's images"
    )
    parser.add_argument("--class", type=int | None, help="of the image; by default a conditional generator tries all")
    parser.add_argument("--steps", type=int, default=300, help="updates of each latent")
    parser.add_argument("--restarts", type=int, default=32, help="latents to start from, of which the best one counts")
    parser.add_argument("--seed", type=int, default=0, help="of the latents to start from")
    parser.add_argument("--save_latent", type=str | None, help="an .npz for the latent, and the label where there is one")
    return parser


def invert(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch, and search."""
    config = _settings(arrange(args))
    from gan_lightning.commands.inverting import search

    search(config)


def _settings(groups: Sequence[Sequence[str]]) -> Namespace:
    """The flags: ``hole`` as a list of numbers."""
    config = parse_drawing(make_parser(), groups)
    for name in ("image", "mask"):
        if config[name] is not None and not Path(config[name]).is_file():
            raise InputError(f"{config[name]}: no such file; name an image")
    if config.hole is not None:
        text, config.hole = config.hole, whole_numbers("hole", config.hole)
        if len(config.hole) != 4 or 0 in config.hole[2:]:
            raise InputError(f"--hole {text}: give TOP,LEFT,HEIGHT,WIDTH in pixels, such as --hole 6,6,12,12")
    ways = {name: config[name] for name in ("mask", "hole", "super_resolution") if config[name] is not None}
    if len(ways) > 1:
        raise InputError(f"{' and '.join(f'--{name}' for name in ways)}: give one of them")
    if Path(config.output).suffix != ".png":
        raise InputError(f"--output {config.output}: the name must end in .png")
    require_new(Path(config.output))
    if config.save_latent is not None:
        if Path(config.save_latent).suffix != ".npz":
            raise InputError(f"--save_latent {config.save_latent}: the name must end in .npz")
        require_new(Path(config.save_latent), "--save_latent")
    return config
