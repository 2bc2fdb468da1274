"""Exit codes: bad input prints one line on the standard error and exits with 2, Ctrl-C exits with 130."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from gan_lightning.commands.common.console import lasting_console
from gan_lightning.errors import USER_ERRNOS, Diverged, InputError, ProcessLost

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables that hold the rank; the first that is set counts, in Lightning's order."""


def run_command(name: str, command: Callable[[], None]) -> int:
    """Run a command and return its exit code: bad input prints one line and gives 2, Ctrl-C gives 130.

    Only rank 0 prints, except for an error that a single rank may have found in a joint run.
    """
    with lasting_console() as output:
        message, code = "", 0
        interrupts: list[int] = []
        prints = next((os.environ[rank] for rank in RANKS if rank in os.environ), "0") == "0"
        try:
            with _recorded(interrupts):
                command()
            output.require_written()
        except InputError as error:
            message, code = f"error: {error}", 2
            if not isinstance(error, Diverged):  # all ranks find divergence at once
                prints = _is_first_to_report(prints)
        except OSError as error:
            if error.errno not in USER_ERRNOS:
                raise
            what = "the output" if error.filename is None else os.fsdecode(error.filename)
            message, code = f"error: {what} cannot be used ({error.strerror}): fix this, or use another path", 2
        except ProcessLost as error:
            from gan_lightning.training.watchdog import end_process  # imports torch; a refused flag must not wait for that

            end_process(f"{name}: error: {error}")
        except BaseException as error:
            if not (isinstance(error, KeyboardInterrupt) or (interrupts and isinstance(error, Exception))):
                raise
            message, code = "interrupted", 128 + signal.SIGINT
        if message and prints:
            print(f"{name}: {message}", file=sys.stderr)
    return code


@contextmanager
def _recorded(interrupts: list[int]) -> Iterator[None]:
    """Record Ctrl-C within the block besides raising KeyboardInterrupt: a library that is being imported may turn it into an
    error of its own."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_first_to_report(alone: bool) -> bool:
    """Check if no process of a joint run has reported an error before; ``alone`` is the answer without such a run."""
    if "torch" not in sys.modules:
        return alone
    from gan_lightning.training.distributed import is_first_to_report, world_size

    return is_first_to_report() if world_size() > 1 else alone
