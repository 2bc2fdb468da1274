"""Train recipes, or every loss and penalty, alike, and measure them beside real images: a table, a record, a picture.

python scripts/compare.py
python scripts/compare.py --recipes mlp_mnist,dcgan_mnist --max_time 00:00:30:00 --accelerator gpu
python scripts/compare.py --recipes folder_64 --data.root my_photos --num_images 1000 --metrics fid,prdc
python scripts/compare.py --recipes small_dcgan_mnist --vary losses_and_penalties --seeds 0,1,2 --max_steps 2000
"""

import sys
from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.commands.arguments import arrange, config_path, parse, recipes, run_command, split_section
from gan_lightning.errors import InputError
from gan_lightning.metrics.request import check_request, split_names


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    return run_command("compare", lambda: compare(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="compare",
        description="Train alike and measure beside real images. What is in --output already is kept, so that the command "
        "goes on where it stopped; several may work on one folder with other seeds. Flags --data.X, such as --data.root, are "
        "passed on to the training of each row.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--recipes", type=str, default="dcgan_mnist,mlp_mnist,mlp_mnist_textbook", help="of one data set")
    parser.add_argument(
        "--vary",
        type=Literal["nothing", "losses_and_penalties", "product"],
        default="nothing",
        help="each recipe as it is; or with every loss, then every penalty with the non-saturating loss; or all of both",
    )
    parser.add_argument(
        "--max_time",
        type=str,
        default="00:00:06:00",
        help="of training, each, as days:hours:minutes:seconds; 50 updates are timed first, and those that fit are made",
    )
    parser.add_argument("--max_steps", type=int, default=0, help="generator updates, each, instead of a time")
    parser.add_argument(
        "--num_images", type=int, default=10_000, help="samples of each; of real test images, as many of these as there are"
    )
    parser.add_argument("--metrics", type=str, default="fid,is,prdc,modes", help="as of evaluate.py")
    parser.add_argument("--extractor", type=str | None, help="as of evaluate.py; by default what training measures with")
    parser.add_argument("--seeds", type=str, default="0", help="of training and of the latents, as 0,1,2: mean and deviation")
    parser.add_argument("--accelerator", type=str, default="auto", help="to train on, as of train.py")
    parser.add_argument("--device", type=str, default="auto", help="to measure on, as of evaluate.py")
    parser.add_argument("--output", type=str, default="lightning_logs/compare", help="a folder; runs that are in it are kept")
    return parser


def compare(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch, train and measure."""
    config = _settings(args)
    from gan_lightning.commands.comparison import compare_runs

    compare_runs(config)


def _settings(args: Sequence[str]) -> Namespace:
    """The flags: ``recipes``, ``metrics`` and ``seeds`` as lists; ``data`` is the words that are passed on to the training."""
    data, groups = split_section(arrange(args), "data")
    config = parse(make_parser(), groups)
    config.data = data
    config.recipes, config.metrics = split_names(config.recipes), split_names(config.metrics)
    config.seeds = _seeds(config.seeds)
    if config.max_steps < 0:
        raise InputError(f"--max_steps {config.max_steps}: give a number of updates, or 0 to go by --max_time")
    if not config.recipes:
        raise InputError(f"--recipes is empty: name some of {', '.join(recipes())}")
    for name in config.recipes:
        config_path(name)
    if "fid" not in config.metrics:
        raise InputError(f"--metrics {','.join(config.metrics)}: the rows are sorted by fid, which must be among them")
    check_request(config.metrics, config.num_images, None, real_features=True)
    return config


def _seeds(given: str) -> list[int]:
    words = split_names(given)
    if not words or not all(word.isdecimal() for word in words):
        raise InputError(f"--seeds {given}: give whole numbers, such as 0,1,2")
    return list(dict.fromkeys(int(word) for word in words))
