"""Errors that a user can fix: one exception. Every command prints it as one line and exits with code 2."""

import difflib
import errno
import re
from collections.abc import Collection
from pathlib import Path

USER_ERRNOS = (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Error numbers of the system that are caused by a file's name or a disk, not by a bug of this project."""


class InputError(ValueError):
    """A flag, file or folder is wrong.

    The message is a single line: what is wrong, the value, and what to do about it. Any other exception is a bug of this
    project and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # names of files and values may hold line ends


class Diverged(InputError):
    """A loss, a gradient, a weight or an image is NaN or infinite: the training has failed and cannot recover.

    Attributes:
        last_checkpoint: from before the failure; None if there is none.
    """

    last_checkpoint: Path | None = None


class ProcessLost(RuntimeError):
    """One of several processes has died. No input fixes this: every command prints one line and ends with exit code 1."""


def one_line(error: BaseException) -> str:
    """Message of another library's error as a single line; the name of its class if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def plain(text: str) -> str:
    """Escape a name for printing: file names may contain line ends and bytes that are not text."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def normalised(name: str) -> str:
    """A name in lower case without the characters that join words, so that ``cifar-10`` is the same as ``CIFAR10``."""
    return re.sub(r"[-_ ]", "", name.lower())


def nearest(name: str, known: Collection[str], prefix: str = "") -> str:
    """Suggestion of the known name nearest to a misspelt one, to append to a message; empty if none is near.

    Case, dashes and underscores do not count. If no name is spelt alike, the shortest one that contains ``name`` is suggested.
    """
    names = {normalised(other): other for other in sorted(set(known), reverse=True)}
    near = difflib.get_close_matches(normalised(name), sorted(names), n=1, cutoff=0.6)
    if not near and len(normalised(name)) >= 3:
        near = sorted((other for other in names if normalised(name) in other), key=lambda other: (len(other), other))[:1]
    return f"; did you mean {prefix}{names[near[0]]}?" if near else ""
