"""Errors that a user can fix: every command prints an InputError as one line and ends with exit code 2."""

import difflib
import errno
from collections.abc import Collection
from pathlib import Path

USER_ERRNOS = (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors of the system about a name or a disk, which are no bug of this project."""


class InputError(ValueError):
    """A flag, file or folder is not what it should be.

    The message is a single line that names what is wrong, the value, and what to do about it. Anything else that is
    raised is a bug of ours and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # names of files and values may hold line ends


class Diverged(InputError):
    """A loss, a gradient, a weight or an image is NaN or infinite: the training has failed, and would go on failing.

    Attributes:
        last_checkpoint: of before that; None where there is none.
    """

    last_checkpoint: Path | None = None


class ProcessLost(RuntimeError):
    """One of several processes has died, which no input mends: every command prints one line, and the exit code is 1."""


def one_line(error: BaseException) -> str:
    """The message of another library's error as a single line; its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def nearest(name: str, known: Collection[str], prefix: str = "") -> str:
    """Suggest the known name that is nearest to a misspelt one, to be added to a message; nothing if none is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
