"""The flags of every command that draws from a checkpoint; torch is not imported for them."""

import os
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from gan_lightning.commands.arguments import add_device, parse
from gan_lightning.commands.trust import trusted_modules
from gan_lightning.errors import InputError
from gan_lightning.lookup import expected, find

LEAST = {
    "num_images": 1,
    "batch_size": 1,
    "columns": 1,
    "frames": 1,
    "neighbours": 0,
    "num_real": 1,
    "restarts": 1,
    "seed": 0,
    "steps": 1,
    "super_resolution": 2,
}
"""The smallest value of each flag that is a number."""


def add_checkpoint(parser: ArgumentParser) -> None:
    """The checkpoint, and which of its weights."""
    parser.add_argument("checkpoint", type=str, help=expected())
    parser.add_argument("--raw", action="store_true", help="the generator's own weights, not their average")
    parser.add_argument(
        "--trust", default="", help="modules of one's own, a,b, that the checkpoint and its config.yaml may name"
    )


def add_drawing(parser: ArgumentParser) -> None:
    """The checkpoint, the device, and how it draws."""
    add_checkpoint(parser)
    add_device(parser)
    parser.add_argument("--truncation", type=float | None, help="beyond this no latent lies; 0.7 draws typical images")
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time")


def parse_drawing(parser: ArgumentParser, groups: Sequence[Sequence[str]]) -> Namespace:
    """Parse what ``arrange`` returned; ``trust`` becomes a list of names.

    Raises:
        InputError: a flag is misspelt, of the wrong type or out of range, there is no such generator, or torchrun started
            several processes.
    """
    config = parse(parser, groups)
    config.trust = trusted_modules(config.trust)
    for name, least in LEAST.items():
        if config.get(name) is not None and config[name] < least:
            raise InputError(f"--{name} {config[name]}: give at least {least}")
    if config.get("truncation") is not None and not config.truncation > 0:
        raise InputError(f"--truncation {config.truncation}: give a number above 0, such as 0.7")
    find(config.checkpoint)
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        raise InputError(f"WORLD_SIZE is {processes}: {parser.prog} works in one process; start it without torchrun")
    return config


def whole_numbers(flag: str, text: str) -> list[int]:
    """What a flag lists, with commas between.

    Raises:
        InputError: something that is no whole number of at least 0.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise InputError(f"--{flag} {text}: give whole numbers of at least 0, such as --{flag} 3 or --{flag} 0,1,2")
    return [int(word) for word in words]
