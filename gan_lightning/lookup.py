"""Lookup of a generator's file or folder by name: a path, or a trained generator that ships with this package."""

import glob
import os
import re
from pathlib import Path

from gan_lightning.errors import InputError, nearest

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""A name on the Hugging Face Hub: owner/name."""


def bundled() -> dict[str, Path]:
    """Trained generators that ship with this package: name -> folder."""
    return {config.parent.name: config.parent for config in sorted(Path(__file__).parent.glob("generators/*/config.json"))}


def expected() -> str:
    """Description of all valid names of a generator, for help texts and errors."""
    others = "a checkpoint of train.py, a folder of export.py, owner/name on the Hub"
    return f"{others}, or a bundled generator: {', '.join(bundled())}"


def find(name: str | os.PathLike[str]) -> Path | None:
    """Find the file or folder of a name on this machine. An existing path wins over a bundled generator.

    Args:
        name: a path, the name of a bundled generator, or ``owner/name`` on the Hugging Face Hub. Does not ask the Hub.

    Returns:
        the path; None if only the Hub may know the name.

    Raises:
        InputError: the name is none of these.
    """
    path, text, shipped = Path(name), os.fspath(name), bundled()
    if path.exists():
        return path
    if text in shipped:
        return shipped[text]
    if REPOSITORY.fullmatch(text) and path.suffix != ".ckpt" and not path.parent.exists():
        return None
    raise InputError(f"{text} does not exist{_newest(path) or nearest(text, shipped)} (use {expected()})")


def _newest(path: Path) -> str:
    """Suggest the newest checkpoint of the runs here for ``last``, ``last.ckpt`` and so on; empty if there is none."""
    runs = Path("lightning_logs").glob(f"version_*/checkpoints/{glob.escape(path.stem)}.ckpt")
    newest = max(runs, key=lambda run: run.stat().st_mtime, default=None)
    return "" if newest is None else f"; did you mean {newest}?"
