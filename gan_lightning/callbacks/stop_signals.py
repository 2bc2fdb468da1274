"""Clean end of a run on Ctrl-C, and when a cluster takes its machine back."""

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer

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
        self.received = distributed.largest(self._signal)
        if self.received:
            trainer.should_stop = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore_handlers()

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
    return any(isinstance(callback, StopSignals) and callback.received for callback in trainer.callbacks)  # type: ignore[attr-defined]


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(f"{signal.Signals(number).name} ended the run at once. The last checkpoint is kept.", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


def _nothing() -> None:
    """Send nothing, in place of Lightning's message."""
