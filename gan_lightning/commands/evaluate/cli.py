"""Measure a trained generator or translator, or a folder of images, against real images.

python scripts/evaluate.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/evaluate.py last.ckpt --metrics fid,is,kid,prdc --extractor inception --num_images 10000
python scripts/evaluate.py digits
python scripts/evaluate.py last.ckpt --real my_photos
python scripts/evaluate.py samples/ --real my_photos
python scripts/evaluate.py last.ckpt --metrics fid,is --reference cifar10.npz
python scripts/evaluate.py last.ckpt --metrics fid,psnr,ssim
torchrun --nproc_per_node 2 scripts/evaluate.py last.ckpt
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from gan_lightning.commands.common.arguments import arrange, given
from gan_lightning.commands.common.flags import add_seed, add_weights
from gan_lightning.commands.common.measuring_flags import (
    add_measuring,
    check_real_images,
    check_shape_flags,
    is_image_set,
    parse_flags,
)
from gan_lightning.commands.common.outputs import require_writable
from gan_lightning.commands.common.trust import trusted_modules
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError
from gan_lightning.lookup import expected, find
from gan_lightning.metrics.table import METRICS, PAIR_METRICS, check_request, check_translation_request, split_names

NUM_IMAGES = 50_000


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command, except the arguments of the data's class."""
    parser.add_argument("source", type=str, help=f"a folder, .npy, .npz, .zip or .tar of images, {expected()}")
    parser.add_argument(
        "--metrics",
        type=str,
        default="fid,is",
        help=f"comma-separated metrics, from {','.join(METRICS)}; for translations also {','.join(PAIR_METRICS)}, and by "
        "default fid and all of these that the data allows",
    )
    parser.add_argument(
        "--num_images",
        type=PositiveInt | None,
        help=f"number of images; by default {NUM_IMAGES} samples, the whole folder, or all sources of the split (for "
        "translations: --split test by default)",
    )
    add_seed(parser)
    add_weights(parser)
    parser.add_argument("--reference", type=str | None, help="an .npz with mu and sigma, to use instead of real images")
    parser.add_argument(
        "--output", type=str | None, help="record as .json; by default next to the checkpoint, and none for a folder of images"
    )
    add_measuring(parser)


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and measure."""
    groups = arrange(args)
    config = _settings(groups)
    from gan_lightning.commands.evaluate.run import measure

    measure(config, groups)


def _settings(groups: Sequence[Sequence[str]]) -> Namespace:
    """Read the flags: ``metrics`` and ``trust`` as lists of names; ``num_images`` is None for a whole folder."""
    config = parse_flags(Verb.evaluate.make_parser(), groups)
    config.metrics, config.trust = split_names(config.metrics), trusted_modules(config.trust)
    source = Path(config.source)
    find(config.source)
    if source.is_file() and not is_image_set(source) and not _is_zip(source):
        raise InputError(
            f"{source} is neither a checkpoint nor a set of images: use {expected()}, or a folder, .npy, .npz, .zip or .tar of "
            "images"
        )
    check_real_images(config, groups)
    if config.num_real is not None and config.reference:
        raise InputError(f"--num_real {config.num_real}: --reference has a fixed number of images. Remove one of the two")
    for flag in ("raw", "seed", "trust"):
        if given(groups, flag) is not None and is_image_set(source):
            raise InputError(f"--{flag} is for a checkpoint, but {config.source} has images: remove the flag")
    folder = is_image_set(source)
    check_shape_flags(
        config, folder, folder or config.real is not None, "a folder of images, but a checkpoint has a fixed shape"
    )
    if config.num_images is None and not is_image_set(source):
        config.num_images = NUM_IMAGES
    if set(config.metrics) & PAIR_METRICS.keys():
        check_translation_request(config.metrics, config.num_images)
    else:
        check_request(config.metrics, config.num_images, config.num_real, real_features=config.reference is None)
    if config.output is not None:
        require_writable(Path(config.output))
    return config


def _is_zip(path: Path) -> bool:
    """Check if a file begins like a zip file, the format of checkpoints. A file that cannot be opened is reported later."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return True
