"""Import allow-list for config files found next to a checkpoint. They may come from another person."""

import importlib.util
import re
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from gan_lightning.commands.common.paths import IN_FILES
from gan_lightning.commands.common.recipes import TooNested, load_yaml
from gan_lightning.errors import InputError

TRUSTED = ("gan_lightning", "torch.optim", "lightning.pytorch")
"""Modules that every config.yaml may import from."""
TEXT_SETTINGS = frozenset({"ckpt_path", "data", "init_from", "method", "trust"})
"""Top-level settings that are text; for any other top-level setting, text names a file with its settings."""
MAX_VALUES = 10_000  # of a config.yaml; a run has a few hundred


def trusted_modules(text: str) -> list[str]:
    """Split the comma-separated top-level modules of ``--trust``.

    Raises:
        InputError: a word is not the name of a top-level module.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise InputError(f"--trust {name} is not a top-level module: use names such as --trust my_module,other_module")
    return names


def check_imports(path: Path, settings: dict[str, Any], trust: Collection[str]) -> None:
    """Refuse settings that would import untrusted modules; this imports nothing itself.

    A checkpoint often comes from another person, and so does the config.yaml next to it. Any text in the file may name
    something to import: a class, a function, or further settings written as text.

    Args:
        path: the file, for the message.
        settings: its content, or the part of it that is used.
        trust: top-level modules that it may import from, in addition to :data:`TRUSTED`.

    Raises:
        InputError: the settings name another importable module, or another file of settings.
    """
    for name, value in settings.items():
        if name == "config" or (isinstance(value, str) and str(name).partition(".")[0] not in TEXT_SETTINGS):
            raise InputError(
                f"{path} refers to another file of settings ({name}: {value}): pass the files with --config instead"
            )
    left: list[Any] = [settings]
    seen = 0
    while left:
        value = left.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise InputError(f"{path} has more than {MAX_VALUES:,} values, more than any run writes: use another file")
        if isinstance(value, dict):
            left += [item for name, item in value.items() if str(name).rpartition(".")[2] not in IN_FILES]
        elif isinstance(value, list | tuple | set):
            left += value
        elif isinstance(value, str):
            module = value.partition(".")[0]
            if re.fullmatch(r"\w+(\.\w+)+", value) and not _is_trusted(value, trust) and _is_importable(module):
                advice = "use another file" if module in sys.stdlib_module_names else f"add --trust {module} to run its code"
                raise InputError(f"{path} names {value}, and the module {module!r} is not trusted: {advice}")
            with suppress(yaml.YAMLError):
                try:
                    meaning = load_yaml(value)
                except TooNested as error:
                    raise InputError(f"{path} has a text that is read as YAML, but {error}: use another file") from error
                left += [] if meaning == value else [meaning]


def _is_trusted(name: str, trust: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in (*TRUSTED, *trust))


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # the module is already imported and has no spec
        return True
