"""How a run ends on Ctrl-C, and when a cluster takes its machine back."""

import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals(Callback):
    """SIGINT (Ctrl-C) or SIGTERM ends the run after its step, as the last step would, with a checkpoint; a second one at once.

    Several processes end after the same step, whichever of them was told. Before the first step there is nothing to save, and
    one signal ends the process. The exit code that the shell knows is 128 + the signal's number.

    Attributes:
        received: the number of the signal that ends the run; 0 while there is none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._told = 0
        self._before: dict[signal.Signals, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.received = self._told = 0
        if threading.current_thread() is threading.main_thread():  # no other one may handle signals
            self._before = {number: signal.signal(number, _end_at_once) for number in SIGNALS}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in self._before:
            signal.signal(number, self._tell)  # in the place of Lightning's, which ends the run with exit code 0
        # Lightning's processes ask one another at each step, waiting for the device; they do so here without it
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.received = processes.largest(self._told)
        if self.received:
            trainer.should_stop = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = number
        for again in SIGNALS:
            signal.signal(again, _end_at_once)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _nothing() -> None:
    """Instead of a message."""
