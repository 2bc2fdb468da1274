"""Exit codes: bad input prints one line on the standard error and exits with 2, Ctrl-C exits with 130."""

import os
import signal
import sys
from collections.abc import Callable

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
        prints = next((os.environ[rank] for rank in RANKS if rank in os.environ), "0") == "0"
        try:
            command()
            output.require_written()
        except InputError as error:
            message, code = f"error: {error}", 2
            prints = prints or (_in_joint_run() and not isinstance(error, Diverged))  # all ranks find divergence at once
        except OSError as error:
            if error.errno not in USER_ERRNOS:
                raise
            what = "the output" if error.filename is None else os.fsdecode(error.filename)
            message, code = f"error: {what} cannot be used ({error.strerror}): fix this, or use another path", 2
        except ProcessLost as error:
            from gan_lightning.training.watchdog import end_process  # imports torch; a refused flag must not wait for that

            end_process(f"{name}: error: {error}")
        except KeyboardInterrupt:
            message, code = "interrupted", 128 + signal.SIGINT
        if message and prints:
            print(f"{name}: {message}", file=sys.stderr)
    return code


def _in_joint_run() -> bool:
    """Check if this process works together with others; before torch is imported it cannot."""
    if "torch" not in sys.modules:
        return False
    from gan_lightning.training.distributed import world_size

    return world_size() > 1
