"""The attributes that ``--condition`` names."""

import math
from typing import TYPE_CHECKING

from gan_lightning.errors import InputError, plain

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from torch import Tensor

    from gan_lightning.inference import Sampler


def add_condition(parser: "ArgumentParser", several: str = "") -> None:
    """Add ``--condition``; ``several`` completes the help with the use of several sets of attributes."""
    parser.add_argument(
        "--condition",
        type=str | None,
        help="attributes of all images, as smile=1,age=0.3; the others have their mean over the training images" + several,
    )


def check_condition(config: "Namespace") -> None:
    """Refuse a ``--condition`` that cannot be read, or that stands next to ``--class``, without torch.

    Raises:
        InputError: as said.
    """
    text = config.get("condition")
    if text is None:
        return
    parse_condition(text)
    if config.get("class") is not None:
        raise InputError(
            f"--class {config['class']} and --condition {text} exclude each other: a generator has classes or attributes"
        )


def parse_condition(text: str) -> list[dict[str, float]]:
    """Read the attributes in the value of ``--condition``: of each set, name -> value. Semicolons separate the sets.

    Raises:
        InputError: it is not of the form NAME=VALUE,NAME=VALUE, or a value is no finite number.
    """
    return [_attributes(part, text) for part in text.split(";")]


def _attributes(part: str, text: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for entry in part.split(","):
        name, _, value = (word.strip() for word in entry.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number) or name in values:
            raise InputError(
                f"--condition {text}: {plain(entry.strip()) or 'an empty entry'} does not set an attribute to a number once: "
                "use NAME=VALUE, separated by commas"
            )
        values[name] = number
    return values


def condition_rows(sampler: "Sampler", text: str) -> "Tensor":
    """Find the attributes that ``--condition`` names, float32 (N, K), and print them.

    Raises:
        InputError: the generator has no such attribute, or none at all.
    """
    import torch

    if not sampler.condition_names:
        has = (
            "has classes instead of attributes: use --class"
            if sampler.generator.num_classes and sampler.generator.conditional
            else ("is unconditional, so it has no attributes; remove the flag")
        )
        raise InputError(f"--condition {text}: this generator {has}")
    rows = torch.stack([sampler.condition(values) for values in parse_condition(text)])
    print(f"  condition: {'; '.join(condition_text(row, sampler) for row in rows)}", flush=True)
    return rows


def condition_text(row: "Tensor", sampler: "Sampler") -> str:
    """Format attributes (K,) as the value of ``--condition``."""
    return ",".join(f"{name}={value:.4g}" for name, value in zip(sampler.condition_names, row.tolist(), strict=True))
