"""Clean end of a run on Ctrl-C, and when a cluster takes its machine back."""

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.errors import InputError
from gan_lightning.training import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO = 1.0


class StopSignals(Callback):
    """Ends the run with a checkpoint after the present step on SIGINT (Ctrl-C) or SIGTERM; a second signal ends it at once.

    Several processes end after the same step, whichever of them receives the signal. Before the first step there is nothing
    to save, so one signal ends the process. The exit code is 128 + the signal's number. A second signal within :data:`ECHO`
    seconds is ignored: launchers forward a signal to processes that have already received it from the terminal.

    Attributes:
        received: number of the signal that ends the run; 0 while there is none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._signal = 0
        self._signal_time = 0.0
        self._earlier_handlers: dict[signal.Signals, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.received = self._signal = 0
        if threading.current_thread() is threading.main_thread():  # no other thread may handle signals
            self._earlier_handlers = {number: signal.signal(number, _end_at_once) for number in SIGNALS}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in self._earlier_handlers:
            signal.signal(number, self._receive)  # instead of Lightning's handler: it ends the run with exit code 0
        # Lightning's processes ask each other at each step and wait for the device; on_train_batch_end asks without it
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.ends_run(trainer)

    def ends_run(self, trainer: Trainer) -> bool:
        """Learn of signals that any process has received; if there is one, end the run after the present step."""
        self.received = distributed.largest(self._signal)
        if self.received:
            trainer.should_stop = True
        return self.received != 0

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore_handlers()

    @property
    def pending(self) -> bool:
        """True if this process has received a signal, also before the others know of it."""
        return self._signal != 0

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._signal:
            self._signal, self._signal_time = number, time.monotonic()
        elif time.monotonic() - self._signal_time > ECHO:
            _end_at_once(number, frame)

    def _restore_handlers(self) -> None:
        for number, handler in self._earlier_handlers.items():
            signal.signal(number, handler)
        self._earlier_handlers = {}


def is_interrupted(trainer: Trainer) -> bool:
    """Check if a signal ends the run after this step."""
    return any(callback.received for callback in _stop_signals(trainer))


def require_no_signal(trainer: Trainer) -> None:
    """Give up the long work of a callback if this process has received a signal; call it between batches.

    Raises:
        InputError: a signal has come. :func:`ends_run` must follow in all processes.
    """
    if any(callback.pending for callback in _stop_signals(trainer)):
        raise InputError("a signal ends the run")


def ends_run(trainer: Trainer) -> bool:
    """Check, in all processes together, if one has received a signal, and if so end the run after the present step."""
    answers = [callback.ends_run(trainer) for callback in _stop_signals(trainer)]  # each of them communicates
    return any(answers)


def _stop_signals(trainer: Trainer) -> list[StopSignals]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, StopSignals)]


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(f"{signal.Signals(number).name} ended the run at once. Saved checkpoints are kept.", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


def _nothing() -> None:
    """Send nothing, in place of Lightning's message."""
