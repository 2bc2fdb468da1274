"""Standard output and error that never end a command: a closed pipe must not cost the work of hours."""

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

NOBODY_READS = (errno.EPIPE, errno.EIO, errno.EINVAL)
"""Error numbers of a closed pipe, of a terminal that is gone, and of a closed pipe on Windows."""

ESCAPE = "gan_lightning.escape"
"""Error handler for consoles on which Python prints the bytes of a file's name as they are: those of the locale C."""


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Print the bytes of a file's name as they are, and other characters that the encoding lacks as ``\\u65e5``."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error(ESCAPE, _escape)


class Console:
    """A text stream that escapes characters outside its encoding, and drops all output after its first failed write.

    Args:
        stream: the stream to write to. It also has the attributes that are not defined here.

    Attributes:
        error: the error of the failed write; None if there is none, or if only nobody reads the output any more.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False
        self.error: OSError | None = None
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=ESCAPE if stream.errors == "surrogateescape" else "backslashreplace")

    def write(self, text: str) -> int:
        if not self._dropped:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._drop(error)
        return len(text)

    def flush(self) -> None:
        if not self._dropped:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._drop(error)

    def require_written(self) -> None:
        """Flush the output.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        self.flush()
        if self.error is not None:
            raise self.error

    def _drop(self, error: OSError | ValueError) -> None:
        self._dropped = True
        if isinstance(error, OSError) and error.errno not in NOBODY_READS:
            self.error = error
        with suppress(OSError, ValueError):  # the rest of the buffer goes nowhere, and Python's flush at exit succeeds
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_console() -> Iterator[Console]:
    """Replace standard output and error by a :class:`Console` within the block, and yield the output.

    A missing stream is replaced by the null device. Otherwise, the next file that is opened would take its number, and
    libraries written in C would print into it.
    """
    with ExitStack() as stack:
        streams = [
            Console(cast(TextIO, stream or stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))  # noqa: PTH123
            for stream in (sys.stdout, sys.stderr)
        ]
        stack.enter_context(redirect_stdout(cast(TextIO, streams[0])))
        stack.enter_context(redirect_stderr(cast(TextIO, streams[1])))
        try:
            yield streams[0]
        finally:
            for stream in streams:
                stream.flush()
