"""Measure a trained generator, or a folder of images, against real images.

python scripts/evaluate.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/evaluate.py last.ckpt --metrics fid,is,kid,prdc --extractor inception --num_images 10000
python scripts/evaluate.py digits
python scripts/evaluate.py last.ckpt --real my_photos
python scripts/evaluate.py samples/ --real my_photos
python scripts/evaluate.py last.ckpt --metrics fid,is --reference cifar10.npz
torchrun --nproc_per_node 2 scripts/evaluate.py last.ckpt
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.commands.arguments import arrange, given, require_writable, run_command
from gan_lightning.commands.measuring_flags import add_measuring, is_image_folder, parse_flags
from gan_lightning.commands.trust import trusted_modules
from gan_lightning.errors import InputError
from gan_lightning.lookup import expected, find
from gan_lightning.metrics.request import check_request, split_names

NUM_IMAGES = 50_000


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # classes of one's own are named by module and class
    return run_command("evaluate", lambda: evaluate(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line, but for the arguments of the data's class."""
    parser = ArgumentParser(
        prog="evaluate",
        description="Measure a trained generator, or a folder of images, against real images.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("source", type=str, help=f"a folder of images, {expected()}")
    parser.add_argument("--metrics", type=str, default="fid,is", help="which, of fid,is,kid,prdc,modes")
    parser.add_argument(
        "--num_images", type=int | None, help=f"how many samples; by default {NUM_IMAGES}, or all of the folder"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the latents")
    parser.add_argument("--raw", action="store_true", help="the generator's own weights, not their average")
    parser.add_argument(
        "--trust", default="", help="modules of one's own, a,b, that the checkpoint and its config.yaml may name"
    )
    parser.add_argument("--reference", type=str | None, help="an .npz with mu and sigma, instead of real images")
    parser.add_argument("--output", type=str | None, help="the record; by default beside the checkpoint, none of a folder")
    add_measuring(parser)
    return parser


def evaluate(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch, and measure."""
    groups = arrange(args)
    config = _settings(groups)
    from gan_lightning.commands.evaluation import measure

    measure(config, groups)


def _settings(groups: Sequence[Sequence[str]]) -> Namespace:
    """The flags: ``metrics`` and ``trust`` as lists of names, ``num_images`` None where all of a folder is meant."""
    config = parse_flags(make_parser(), groups)
    config.metrics, config.trust = split_names(config.metrics), trusted_modules(config.trust)
    if config.seed < 0:
        raise InputError(f"--seed {config.seed}: give at least 0")
    source = Path(config.source)
    find(config.source)
    together = {"--real": config.real, "--reference": config.reference, "--data": config.data}
    named = [f"{flag} {value}" for flag, value in together.items() if value is not None]
    if len(named) > 1 and not (config.data is not None and config.extractor == "classifier"):
        raise InputError(f"{' and '.join(named)}: give one of them (--data beside another only with --extractor classifier)")
    if given(groups, "split") is not None and (config.real or config.reference):
        raise InputError(f"--split {config.split}: only --data has splits, and not {named[0]}")
    if config.num_real is not None and config.reference:
        raise InputError(f"--num_real {config.num_real}: not with --reference, whose images are counted already")
    for flag in ("raw", "seed", "trust"):
        if given(groups, flag) is not None and is_image_folder(source):
            raise InputError(f"--{flag}: only for a checkpoint, and {config.source} is a folder of images")
    if config.image_size is not None and not is_image_folder(source):
        raise InputError(f"--image_size {config.image_size}: only for a folder; a checkpoint draws in a size of its own")
    if config.num_images is None and not is_image_folder(source):
        config.num_images = NUM_IMAGES
    check_request(config.metrics, config.num_images, config.num_real, real_features=config.reference is None)
    if config.output is not None:
        require_writable(Path(config.output))
    return config
