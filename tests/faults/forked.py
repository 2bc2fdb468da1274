"""Commands in processes of their own without the seconds that their imports take.

Each process imports this file, so it imports little.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gan_lightning.commands.verbs import Verb

SCRIPTS = Path(__file__).parents[2] / "scripts"
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["gan_lightning.commands.train.run", "sklearn.datasets", "torch.utils.tensorboard"])


class Forked:
    """A command in a process forked from one that has all imports. This saves 6 seconds.

    It is used as a ``Popen``. Signals, exit codes and further processes are those of the script.
    """

    def __init__(self, verb: Verb, args: Sequence[str]) -> None:
        self._output = tempfile.TemporaryDirectory()
        work = verb.name, args, self._output.name, Path.cwd(), dict(os.environ)
        self._process = FORKING.Process(target=_run_command, args=work)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        atexit.register(self._kill)
        with contextlib.suppress(ProcessLookupError):
            while os.getpgid(self.pid) != self.pid:
                time.sleep(0.001)

    def poll(self) -> int | None:
        return self._process.exitcode

    returncode = property(poll)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("a command", timeout or 0)
        out, error = (Path(self._output.name, name).read_text() for name in ("out", "error"))
        return out, error

    def _kill(self) -> None:
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)


def _run_command(verb: str, args: Sequence[str], output: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Do what the script does, in its own process group."""
    os.setsid()
    for number, name in ((1, "out"), (2, "error")):
        os.dup2(os.open(Path(output, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [str(SCRIPTS / f"{verb}.py"), *args]
    sys.exit(Verb[verb].main())
