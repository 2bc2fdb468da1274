"""Compute the statistics of real images, for the cache and as an .npz for other programs or machines.

python scripts/compute_reference.py --data CIFAR10 --output cifar10.npz
python scripts/compute_reference.py --real my_photos --image_size 64 --features
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gan_lightning.commands.common.arguments import arrange
from gan_lightning.commands.common.measuring_flags import add_measuring, check_real_images, parse_flags
from gan_lightning.commands.common.outputs import require_writable
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command, except the arguments of the data's class."""
    add_measuring(parser)
    parser.add_argument("--features", action="store_true", help="also keep the features, for kid and prdc")
    parser.add_argument("--output", type=str | None, help="also write mu and sigma to this .npz")


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and compute."""
    groups = arrange(args)
    config = parse_flags(Verb.compute_reference.make_parser(), groups)
    if config.output is not None and not config.output.endswith(".npz"):
        raise InputError(f"--output {config.output}: the name must end in .npz")
    if config.real is None and config.data is None:
        raise InputError("there are no real images: add --data or --real")
    check_real_images(config, groups)
    if config.real is None and config.image_size is not None:
        raise InputError(f"--image_size {config.image_size} is for the folder of --real: remove it")
    if config.output is not None:
        require_writable(Path(config.output))
    from gan_lightning.commands.compute_reference.run import compute

    compute(config, groups)
