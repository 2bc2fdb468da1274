"""Compute the statistics of real images alone: into the cache, and as an .npz for other programs or machines.

python scripts/compute_reference.py --data CIFAR10 --output cifar10.npz
python scripts/compute_reference.py --real my_photos --image_size 64 --features
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gan_lightning.commands.arguments import arrange, given, require_writable, run_command
from gan_lightning.commands.measuring_flags import add_measuring, parse_flags
from gan_lightning.errors import InputError


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # classes of one's own are named by module and class
    return run_command("compute_reference", lambda: compute_reference(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line, but for the arguments of the data's class."""
    parser = ArgumentParser(
        prog="compute_reference",
        description="Compute the statistics of real images, which evaluate.py and training then find in the cache.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add_measuring(parser)
    parser.add_argument("--features", action="store_true", help="keep features too, for kid and prdc")
    parser.add_argument("--output", type=str | None, help="also write mu and sigma to this .npz")
    return parser


def compute_reference(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch, and compute."""
    groups = arrange(args)
    config = parse_flags(make_parser(), groups)
    if config.output is not None and not config.output.endswith(".npz"):
        raise InputError(f"--output {config.output}: the name must end in .npz")
    if config.real is None and config.data is None:
        raise InputError("name the real images, by one of --data and --real")
    if config.real is not None and config.data is not None and config.extractor != "classifier":
        raise InputError(f"--real {config.real} and --data: give one of them (both only with --extractor classifier)")
    if config.real is not None and given(groups, "split") is not None:
        raise InputError(f"--split {config.split}: only --data has splits, and not --real {config.real}")
    if config.real is None and config.image_size is not None:
        raise InputError(f"--image_size {config.image_size}: only for the folder of --real")
    if config.output is not None:
        require_writable(Path(config.output))
    from gan_lightning.commands.reference_statistics import compute

    compute(config, groups)
