"""Runs of the real command with deliberate faults."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from gan_lightning import checkpoint
from gan_lightning.commands.verbs import Verb
from tests.faults.forked import Forked
from tests.helpers import assert_same_state, curves

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
QUIET = [
    *("--accelerator", "cpu", "--enable_progress_bar", "false", "--enable_model_summary", "false"),
    *("--metrics.extractor", "none", "--image_grid.every_n_steps", "0"),
]
SCHEDULE = ["--schedules.learning_rate", "CosineSchedule", "--schedules.learning_rate.end", "0.1"]  # ends with the run
DIGITS = [
    *("--config", "digits", *QUIET, "--data.batch_size", "128", "--log_every_n_steps", "5"),
    *("--model.generator.hidden", "[64]", "--model.discriminator.hidden", "[64]"),
    *SCHEDULE,
]
"""Eleven steps an epoch, a few milliseconds each."""
SMALL = [
    *("--data", "Derived", "--data.source", "Digits", "--data.batch_size", "128"),
    *("--model.generator", "UNetGenerator", "--model.generator.width", "4", "--model.generator.dropout", "0"),
    *("--model.discriminator", "PatchDiscriminator", "--model.discriminator.width", "4", "--model.discriminator.layers", "1"),
    *("--log_every_n_steps", "5", *SCHEDULE),
]
METHODS = {
    "GAN": DIGITS,
    "PairedTranslation": [
        *("--method", "PairedTranslation", *QUIET, *SMALL, "--data.degradation", "Hole"),
        *("--model.loss", "NonSaturatingLoss", "--model.penalty", "R1"),
    ],
    "CycleGAN": ["--method", "CycleGAN", *QUIET, *SMALL, "--data.degradation", "TurnedNegative", "--data.paired", "false"],
}
"""Runs of each method, as short."""
RUN = Path("lightning_logs/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"


Record = Callable[[str, object], None]


def tally(record_property: Record, fault: str, tried: int, survived: int, lost: str) -> None:
    """Record a row of the table that ``make test-faults`` prints."""
    for name, value in (("fault", fault), ("tried", tried), ("survived", survived), ("lost", lost)):
        record_property(name, value)


def start(*args: str, verb: Verb = Verb.train) -> Forked:
    """Start the train command, or another one, forked from a process with all imports."""
    return Forked(verb, args)


def start_program(program: Sequence[str], *args: str) -> subprocess.Popen[str]:
    """Start a program in its own process group."""
    return subprocess.Popen(
        [*program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


Running = Forked | subprocess.Popen[str]


def finish(running: Running, seconds: float = 180) -> tuple[int, str, str]:
    """Return the exit code, output and errors. Kill the process group after so many seconds."""
    try:
        out, error = running.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        out, error = running.communicate()
        raise AssertionError(f"still running after {seconds} s: {out[-2000:]} {error[-2000:]}") from None
    code: int = running.returncode
    return code, out, error


def run(*args: str) -> tuple[int, str, str]:
    return finish(start(*args))


def wait_for(condition: Callable[[], object], running: Running, seconds: float = 120, every: float = 0.02) -> bool:
    """Wait until a condition holds; return False if the process ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and running.poll() is None:
        if condition():
            return True
        time.sleep(every)
    return bool(condition())


def children(pid: int) -> list[int]:
    """Child processes of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def is_running(pid: int) -> bool:
    """Check if a process runs; a zombie does not count."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def made(path: Path = LAST) -> int:
    """Number of steps of a checkpoint; it must be complete."""
    return int(checkpoint.load_gan(path)["global_step"])


def is_finite(path: Path) -> bool:
    weights = checkpoint.load_gan(path)["state_dict"].values()
    return all(bool(value.isfinite().all()) for value in weights if torch.is_floating_point(value))


def assert_same_end(broken: Path, undisturbed: Path) -> None:
    """Check that checkpoints are bitwise equal, and all points of the curves."""
    assert_same_state(broken, undisturbed)
    shown, expected = curves(broken), curves(undisturbed)
    for tag, points in expected.items():
        assert {step: shown[tag][step] for step in points} == points, tag
