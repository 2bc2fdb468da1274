"""The user's home folder and name, and the data folder. A process in a container may have neither (``docker run -u 12345``)."""

import getpass
import os
from pathlib import Path

from gan_lightning.errors import InputError


def home() -> Path:
    """Find the user's home folder. A user without one gets the root folder, as docker sets it."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.sep)


def set_home_and_name() -> None:
    """Set the variables of the environment that hold the user's home folder and name, if this user has none.

    Other libraries need them: torch would put its cache into a folder with the name ``~``, and its compiler would fail.
    """
    windows = os.name == "nt"
    try:
        Path.home()
    except RuntimeError:
        os.environ["USERPROFILE" if windows else "HOME"] = str(home())
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # by Python's version and system
        os.environ["USERNAME" if windows else "USER"] = f"user_{os.getuid()}" if hasattr(os, "getuid") else "user"


def expand(text: str) -> str:
    """Replace a leading ``~`` or ``~name`` by that user's home folder, if there is one and no file has that very name."""
    return text if not text.startswith("~") or os.path.lexists(text) else os.path.expanduser(text)  # noqa: PTH111


def expanded(path: str | os.PathLike[str]) -> Path:
    """Make a path from the result of :func:`expand`.

    Raises:
        InputError: the path begins with the home folder of a user who has none.
    """
    text = expand(os.fspath(path))
    if text.startswith("~") and not os.path.lexists(text):
        raise InputError(f"{path}: this user has no home folder: write the whole path")
    return Path(text)


def default_root() -> Path:
    """Default folder of data sets: $GAN_LIGHTNING_DATA, else ~/.cache/gan_lightning/data. ``data.root`` overrides it."""
    named = os.environ.get("GAN_LIGHTNING_DATA")
    return expanded(named) if named else home() / ".cache" / "gan_lightning" / "data"
