"""What a config.yaml that nobody named may import: it lies beside a checkpoint, and may be another person's."""

import importlib.util
import re
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.errors import InputError

TRUSTED = ("gan_lightning", "torch.optim", "lightning.pytorch")
"""Modules whose classes every config.yaml may name."""
FILE_SETTINGS = frozenset({"ckpt_path", "default_root_dir", "init_from", "root", "weights"})
"""Settings whose value is the name of a file or folder, whatever it looks like."""
TEXT_SETTINGS = frozenset({"ckpt_path", "data", "init_from", "trust"})
"""Those that stand by themselves and are text; that of another one is a file with its settings."""
MOST_VALUES = 10_000  # of a config.yaml; runs have some hundred


def trusted_modules(text: str) -> list[str]:
    """What ``--trust`` names: top-level modules of one's own, with commas between them.

    Raises:
        InputError: a word that is no name of a top-level module.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise InputError(f"--trust {name}: give the names of top-level modules, such as --trust my_module,other_module")
    return names


def check_imports(path: Path, settings: dict[str, Any], trust: Collection[str]) -> None:
    """Refuse settings of a file that nobody named where they would import what is not trusted; nothing is imported here.

    A checkpoint is often another person's, and so is the config.yaml beside it. Any text in it may name something to import:
    a class, a function, or further settings written as text.

    Args:
        path: the file, for the message.
        settings: what it holds, or the part of it that is used.
        trust: top-level modules, besides :data:`TRUSTED`, that it may name.

    Raises:
        InputError: it names an importable module outside, or a further file of settings.
    """
    for name, value in settings.items():
        if name == "config" or (isinstance(value, str) and str(name).partition(".")[0] not in TEXT_SETTINGS):
            raise InputError(f"{path}: names a further file of settings ({name}: {value}); name the files yourself by --config")
    left: list[Any] = [settings]
    seen = 0
    while left:
        value = left.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise InputError(f"{path}: holds more than {MOST_VALUES:,} values, as no config.yaml of a run does; use another")
        if isinstance(value, dict):
            left += [item for name, item in value.items() if str(name).rpartition(".")[2] not in FILE_SETTINGS]
        elif isinstance(value, list | tuple | set):
            left += value
        elif isinstance(value, str):
            module = value.partition(".")[0]
            if re.fullmatch(r"\w+(\.\w+)+", value) and not _is_trusted(value, trust) and _is_importable(module):
                way = "use another file" if module in sys.stdlib_module_names else f"to run code of it, add --trust {module}"
                raise InputError(f"{path}: names {value}, which is of {module!r}; {way}")
            with suppress(yaml.YAMLError):
                meaning = yaml.safe_load(value)
                left += [] if meaning == value else [meaning]


def _is_trusted(name: str, trust: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in (*TRUSTED, *trust))


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # of what is imported already, and does not say from where
        return True
