"""Find the latent of an image, to reconstruct it, fill in a hole, or enlarge a small image.

python scripts/invert.py lightning_logs/version_0/checkpoints/last.ckpt digit.png
python scripts/invert.py last.ckpt digit.png --hole 6,6,12,12 --output inpainted.png
python scripts/invert.py last.ckpt digit.png --super_resolution 4 --output super_resolution.png
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from gan_lightning.commands.common.arguments import arrange
from gan_lightning.commands.common.conditions import add_condition
from gan_lightning.commands.common.flags import add_accelerator, add_checkpoint, add_seed, add_white, parse_drawing
from gan_lightning.commands.common.numbers import AtLeastTwo, whole_numbers
from gan_lightning.commands.common.outputs import require_new
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command."""
    add_checkpoint(parser)
    add_accelerator(parser)
    parser.add_argument("image", type=str, help="image file; resized to the generator's size if it differs")
    add_white(parser, "an image file")
    parser.add_argument(
        "--output", type=str, default="inverted.png", help="a .png with the target, its known part, and the result"
    )
    parser.add_argument("--mask", type=str | None, help="an image that is white where the target is unknown")
    parser.add_argument("--hole", type=str | None, help="unknown rectangle of the target: TOP,LEFT,HEIGHT,WIDTH, in pixels")
    parser.add_argument(
        "--super_resolution", type=AtLeastTwo | None, help="factor by which the target is smaller than the generator's images"
    )
    parser.add_argument(
        "--class", type=str | None, help="class of the image, by name or number; by default all classes are tried"
    )
    add_condition(parser, "; a generator with attributes needs them")
    parser.add_argument("--steps", type=PositiveInt, default=300, help="number of updates of each latent")
    parser.add_argument(
        "--restarts", type=PositiveInt, default=32, help="number of latents to start from; the best result is kept"
    )
    add_seed(parser)
    parser.add_argument("--save_latent", type=str | None, help="an .npz to write the latent to, and the label if there is one")


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and search."""
    config = _settings(arrange(args))
    from gan_lightning.commands.invert.run import search

    search(config)


def _settings(groups: Sequence[Sequence[str]]) -> Namespace:
    """Read the flags: ``hole`` as a list of numbers."""
    config = parse_drawing(Verb.invert.make_parser(), groups)
    for name in ("image", "mask"):
        if config[name] is not None and not Path(config[name]).is_file():
            raise InputError(f"{config[name]} does not exist: use an image file")
    if config.hole is not None:
        text, config.hole = config.hole, whole_numbers("hole", config.hole)
        if len(config.hole) != 4 or 0 in config.hole[2:]:
            raise InputError(f"--hole {text} is not TOP,LEFT,HEIGHT,WIDTH in pixels: use, for example, --hole 6,6,12,12")
    tasks = {name: config[name] for name in ("mask", "hole", "super_resolution") if config[name] is not None}
    if len(tasks) > 1:
        raise InputError(f"{' and '.join(f'--{name}' for name in tasks)} exclude each other: use one of them")
    if Path(config.output).suffix != ".png":
        raise InputError(f"--output {config.output} does not end in .png: use such a name")
    require_new(Path(config.output))
    if config.save_latent is not None:
        if Path(config.save_latent).suffix != ".npz":
            raise InputError(f"--save_latent {config.save_latent} does not end in .npz: use such a name")
        require_new(Path(config.save_latent), "--save_latent")
    return config
