"""Flags that several commands share, with the same meaning in each."""

import os
from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from gan_lightning.commands.common.arguments import parse
from gan_lightning.commands.common.classes import refuse_unknown_classes
from gan_lightning.commands.common.conditions import check_condition
from gan_lightning.commands.common.numbers import Seed
from gan_lightning.commands.common.trust import trusted_modules
from gan_lightning.errors import InputError
from gan_lightning.lookup import expected, find

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
"""The accelerators that the commands support, by Lightning's names."""


def add_checkpoint(parser: ArgumentParser) -> None:
    """Add the generator and the choice of its weights."""
    parser.add_argument("checkpoint", type=str, help=expected())
    add_weights(parser)


def add_weights(parser: ArgumentParser) -> None:
    """Add ``--raw`` and ``--trust``."""
    parser.add_argument("--raw", action="store_true", help="use the raw weights instead of their moving average")
    add_trust(parser)


def add_trust(parser: ArgumentParser) -> None:
    """Add the allow-list of modules."""
    parser.add_argument(
        "--trust", default="", help="comma-separated modules that a checkpoint and the config.yaml next to it may import"
    )


def add_accelerator(parser: ArgumentParser) -> None:
    """Add ``--accelerator``."""
    parser.add_argument(
        "--accelerator",
        type=Accelerator,
        default="auto",
        help="device to compute on, as for training; auto is a GPU if there is one",
    )


def add_seed(parser: ArgumentParser) -> None:
    """Add the seed of the latents."""
    parser.add_argument("--seed", type=Seed, default=0, help="seed of the latents; the same seed draws the same images")


def add_white(parser: ArgumentParser, what: str) -> None:
    """Add ``--white``, for images that the help text names."""
    parser.add_argument(
        "--white",
        type=PositiveFloat | None,
        help=f"value that is white in {what} of more than 8 bits, such as 4095 if 12 of 16 bits are used",
    )


def add_drawing(parser: ArgumentParser) -> None:
    """Add the generator, the device, the truncation and the batch size."""
    add_checkpoint(parser)
    add_accelerator(parser)
    parser.add_argument("--truncation", type=PositiveFloat | None, help="keep latents within ±VALUE; 0.7 draws typical images")
    parser.add_argument("--batch_size", type=PositiveInt, default=64, help="images per batch")


def parse_drawing(parser: ArgumentParser, groups: Sequence[Sequence[str]]) -> Namespace:
    """Parse the groups of ``arrange``; ``trust`` becomes a list of names.

    Raises:
        InputError: a flag is misspelt, of the wrong type or out of range; the generator does not exist or lacks a class; or
            torchrun started several processes.
    """
    config = parse(parser, groups)
    config.trust = trusted_modules(config.trust)
    find(config.checkpoint)
    check_condition(config)
    refuse_unknown_classes(config.checkpoint, config.get("class"))
    require_one_process(parser.prog)
    return config


def require_one_process(command: str) -> None:
    """Refuse to run under torchrun.

    Raises:
        InputError: torchrun started several processes.
    """
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        raise InputError(f"WORLD_SIZE is {processes}, but {command} works in one process: start it without torchrun")
