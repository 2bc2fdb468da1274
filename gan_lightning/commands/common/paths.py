"""Paths on a command line: their text is never read as YAML, a leading ~ is the home folder, and printed ones can be pasted."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from gan_lightning.home import expand

IN_FILES = frozenset({"a", "b", "ckpt_path", "default_root_dir", "inception_weights", "init_from", "path", "root"})
"""Settings of a run whose value is always a path of a file or folder, or null."""
PATHS = IN_FILES | {"checkpoint", "image", "input", "mask", "output", "real", "reference", "save_latent", "source"}
"""Settings and arguments of all commands whose value is always a path, or the name of a generator."""


def hide(groups: Sequence[Sequence[str]]) -> tuple[list[list[str]], dict[str, str]]:
    """Replace the paths in the groups of ``arrange`` by words that mean nothing in YAML.

    jsonargparse reads a value as YAML unless its type is text alone: ``[a]`` as a list, ``null`` as None, ``1e3`` as a number.
    A ``null`` that names no file stays, so that it removes a setting of a recipe.

    Returns:
        the new groups, and word -> path.
    """
    hidden: dict[str, str] = {}
    changed = []
    for flag, *values in filter(None, groups):
        name, equals, text = flag.partition("=")
        in_files = name.rpartition(".")[2].lstrip("-") in IN_FILES
        if (in_files or name.lstrip("-") in PATHS) and (equals or values):
            path = text if equals else values[0]
            if path and not (path == "null" and in_files and not os.path.lexists(path)):
                word = f"path_{len(hidden)}"
                hidden[word] = path
                flag, values = (f"{name}={word}", values) if equals else (flag, [word, *values[1:]])
        changed.append([flag, *values])
    return changed, hidden


def hide_in_settings(settings: Any, hidden: dict[str, str]) -> bool:
    """Replace the paths in settings, a Namespace or the content of a YAML file, in place; add word -> path to ``hidden``.

    jsonargparse reads text within a class's arguments as YAML once more, when it reads a file and when it writes one.

    Returns:
        True if a path was replaced.
    """
    replaced = False
    items = vars(settings) if isinstance(settings, Namespace) else settings
    for name, value in items.items() if isinstance(items, dict) else ():
        for part in value if isinstance(value, list) else [value]:
            replaced |= hide_in_settings(part, hidden)
        if (
            name in IN_FILES
            and isinstance(value, str)
            and (value.lower() == "null" or not value.replace("/", "").replace(".", "").isidentifier())
        ):
            word = f"path_{len(hidden)}"
            hidden[word], items[name], replaced = value, word, True
    return replaced


def show(settings: Any, hidden: dict[str, str]) -> None:
    """Put hidden paths back into the settings, in place, and expand all paths."""
    for name, value in vars(settings).items() if isinstance(settings, Namespace) else ():
        for part in value if isinstance(value, list) else [value]:
            show(part, hidden)
        if name in PATHS and isinstance(value, str):
            settings[name] = expand(hidden.get(value, value))


def short_path(path: str | os.PathLike[str]) -> str:
    """Shorten a path to the form that a user would type here."""
    path = Path(path)
    return str(path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path)


def pasted(path: str | os.PathLike[str]) -> str:
    """Write a path as a word of a command that can be pasted into a shell."""
    return shlex.quote(short_path(path))
