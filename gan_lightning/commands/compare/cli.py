"""Train recipes, or every loss and penalty, under the same conditions, and measure them next to real images.

The results are a table, a record and a picture.

python scripts/compare.py
python scripts/compare.py --recipes mlp_mnist,dcgan_mnist --max_time 00:00:30:00 --accelerator gpu
python scripts/compare.py --recipes folder_64 --data.root my_photos --num_images 1000 --metrics fid,prdc
python scripts/compare.py --recipes small_dcgan_mnist --vary losses_and_penalties --seeds 0,1,2 --max_steps 2000
"""

from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from gan_lightning.commands.common.arguments import arrange, parse, split_section
from gan_lightning.commands.common.flags import add_accelerator, require_one_process
from gan_lightning.commands.common.numbers import whole_numbers
from gan_lightning.commands.common.recipes import config_path, recipes
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError
from gan_lightning.metrics.table import check_request, split_names


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command."""
    parser.add_argument(
        "--recipes",
        type=str,
        default="dcgan_mnist,mlp_mnist,mlp_mnist_textbook",
        help="comma-separated recipes for one data set",
    )
    parser.add_argument(
        "--vary",
        type=Literal["nothing", "losses_and_penalties", "product"],
        default="nothing",
        help="variants of each recipe: none; every loss, then every penalty in place of its own; or all combinations",
    )
    parser.add_argument(
        "--max_time",
        type=str,
        default="00:00:06:00",
        help="training time of each row, as days:hours:minutes:seconds; a timed trial of 50 updates finds how many fit",
    )
    parser.add_argument(
        "--max_steps", type=NonNegativeInt, default=0, help="generator updates of each row, instead of --max_time"
    )
    parser.add_argument(
        "--num_images",
        type=PositiveInt,
        default=10_000,
        help="number of samples of each row; at most the number of test images",
    )
    parser.add_argument("--metrics", type=str, default="fid,is,prdc,modes", help="comma-separated metrics, as for evaluate.py")
    parser.add_argument(
        "--extractor", type=str | None, help="feature extractor, as for evaluate.py; by default that of training"
    )
    parser.add_argument(
        "--seeds",
        type=str,
        default="0",
        help="comma-separated seeds of training and latents; the table shows mean and standard deviation",
    )
    add_accelerator(parser)
    parser.add_argument(
        "--output", type=str, default="lightning_logs/compare", help="output folder; runs already in it are kept"
    )


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch, train and measure."""
    config = _settings(args)
    from gan_lightning.commands.compare.run import compare_runs

    compare_runs(config)


def _settings(args: Sequence[str]) -> Namespace:
    """Read the flags: ``recipes``, ``metrics`` and ``seeds`` as lists, ``data`` as the words to pass on to the training."""
    data, groups = split_section(arrange(args), "data")
    config = parse(Verb.compare.make_parser(), groups, others=["data"])
    require_one_process("compare")
    config.data = data
    config.recipes, config.metrics = split_names(config.recipes), split_names(config.metrics)
    config.seeds = list(dict.fromkeys(whole_numbers("seeds", config.seeds)))
    if not config.recipes:
        raise InputError(f"--recipes is empty: use one or more of {', '.join(recipes())}")
    for name in config.recipes:
        config_path(name, "--recipes")
    if "fid" not in config.metrics:
        raise InputError(f"--metrics {','.join(config.metrics)}: the rows are sorted by fid. Add it")
    check_request(config.metrics, config.num_images, None, real_features=True)
    return config
