"""Early checks that ``--output`` can be written."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gan_lightning.errors import InputError

OTHER_FILES = frozenset({".png", ".npz", ".npy", ".pt", ".zip", ".jpg", ".jpeg", ".webp", ".gif", ".mp4"})
"""Endings, in upper or lower case, that are not accepted for a folder."""


def require_writable(path: Path, flag: str = "--output") -> None:
    """Refuse a file that cannot be written; an earlier record may be replaced.

    Raises:
        InputError: the path is a folder, a device or another special file, or its folder cannot be made or written to.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path} is not a file that can be replaced: use another name")
    if path.is_file() and path.suffix not in (".json", ".npz"):
        raise InputError(f"{flag} {path} exists and is not an earlier record: use another name")
    _require_writable_folder(path, flag)


def require_new(path: Path, flag: str = "--output", otherwise: str = "remove it") -> None:
    """Refuse a file that exists, or that cannot be written.

    Raises:
        InputError: the file exists, or its folder cannot be made or written to.
    """
    if os.path.lexists(path):  # a broken link counts as well
        raise InputError(f"{flag} {path} exists already and is not overwritten: use another name, or {otherwise}")
    require_writable(path, flag)


def require_replaceable(path: Path, inputs: Sequence[Path], flag: str = "--output") -> None:
    """Refuse a file that cannot be written, or that is an input; another file may be replaced.

    Raises:
        InputError: the path is a folder, a special file or an input, or its folder cannot be made or written to.
    """
    if path.exists() and (not path.is_file() or any(path.samefile(given) for given in inputs)):
        raise InputError(f"{flag} {path} is the input, or not a file that can be replaced: use another name")
    _require_writable_folder(path, flag)


def require_new_folder(path: Path) -> None:
    """Refuse a folder that is not empty, or that cannot be made.

    Raises:
        InputError: the folder is not empty or is a file, or its parent cannot be made or written to.
    """
    if path.name in ("", ".."):
        raise InputError(f"--output {path} is not the name of a new folder: use, for example, --output exported")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or any(path.iterdir())):
        raise InputError(f"--output {path} exists already and is not overwritten: use a new or empty folder")
    _require_writable_folder(path, "--output")


def _require_writable_folder(path: Path, flag: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{flag} {path} cannot be written ({error.strerror}): use another path") from error
