"""A short trial run that measures the cost of a step and saves nothing."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gan_lightning.callbacks import Schedules, TrainingLog
from gan_lightning.commands.common.cost import now, peak_bytes
from gan_lightning.commands.train.fitting import fit
from gan_lightning.data import ImageDataModule
from gan_lightning.module import AdversarialModule
from gan_lightning.training.trainer import make_trainer, total_steps

WARM_UP = 3  # steps before the clock starts
STEPS = 16  # timed steps: a multiple of the usual intervals of penalties
SECONDS = 20.0  # no timed step begins later than this, and no warm-up step later than a quarter of it
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "fast_dev_run": False,
    "min_epochs": None,
    "min_steps": None,
    "profiler": None,
}
"""Settings of the Trainer that prevent files and extra work in the trial, but do not change the time of a step."""


@dataclass
class Cost:
    """The cost of a run, measured on a few steps.

    Attributes:
        device: the device of the steps.
        total: generator updates of the whole run; None if only a time limit ends it.
        most_seconds: time limit of the whole run; None if there is none.
        epoch_steps: generator updates of an epoch.
        step_images: real images of one update, of all processes together.
        warm_up: number of steps before the clock started.
        steps: number of timed steps.
        step_seconds: mean time of a step; 0 if no step was timed.
        peak_bytes: peak memory of the device, or of the process on the CPU; 0 if the system does not count it.
        optimizer_bytes: size of the state of both optimizers.
    """

    device: torch.device
    total: int | None = 0
    most_seconds: float | None = None
    epoch_steps: int = 0
    step_images: int = 0
    warm_up: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    peak_bytes: int = 0
    optimizer_bytes: int = 0

    def run_steps(self, begun_at: int) -> int:
        """Count the steps of the run after the first ``begun_at``."""
        limits = [] if self.total is None else [max(0, self.total - begun_at)]
        if self.most_seconds is not None and self.step_seconds:
            limits.append(int(self.most_seconds / self.step_seconds))
        return min(limits, default=0)


class Stopwatch(Callback):
    """Time steps after :data:`WARM_UP` of them, then end the run.

    Args:
        steps: number of steps to time.

    Attributes:
        cost: the result.
    """

    cost: Cost

    def __init__(self, steps: int) -> None:
        self._steps, self._seconds = steps, SECONDS * steps / STEPS
        self._started = self._begun = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.cost = Cost(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.cost.total = total_steps(trainer)
        self.cost.epoch_steps = int(trainer.num_training_batches)
        self.cost.step_images = trainer.datamodule.batch_size * trainer.world_size  # type: ignore[attr-defined]
        trainer.fit_loop.max_epochs = -1  # the trial may be longer than the run
        trainer.fit_loop.epoch_loop.max_steps = max(self.cost.total or 0, WARM_UP + self._steps)
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        cost, step = self.cost, trainer.global_step
        seconds = self._seconds if cost.warm_up else self._seconds / 4
        late = trainer.strategy.reduce_boolean_decision(time.perf_counter() - self._started > seconds, all=False)
        if not cost.warm_up:
            if step == WARM_UP or late:
                cost.warm_up, self._begun = step, now()
        elif step == cost.warm_up + self._steps or late:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.cost.warm_up and (steps := trainer.global_step - self.cost.warm_up):
            self.cost.steps, self.cost.step_seconds = steps, (now() - self._begun) / steps
        self.cost.peak_bytes = peak_bytes(pl_module.device)
        kept = [leaf for optimizer in trainer.optimizers for leaf in tree_leaves(dict(optimizer.state))]
        self.cost.optimizer_bytes = sum(leaf.nbytes for leaf in kept if isinstance(leaf, Tensor))


def timed_trial(
    model: AdversarialModule,
    data: ImageDataModule,
    schedules: Schedules,
    arguments: dict[str, Any],
    steps: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> Cost:
    """Train a few steps with the Trainer's ``arguments``, in a folder that is removed again.

    If only a time limit ends the run, ``cost.total`` is None; this works with any schedules.

    Args:
        model: the model to train.
        data: the images.
        schedules: the schedules of the run.
        arguments: arguments of Lightning's Trainer.
        steps: number of timed steps; by default :data:`STEPS`.
        callbacks: more callbacks of the trial.

    Raises:
        InputError: training would fail, or its first steps diverge.
    """
    stopwatch = Stopwatch(steps or STEPS)
    own = [stopwatch, schedules, TrainingLog(), *callbacks]  # the stopwatch sets a length for the schedules
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps files that are still open
        trainer = make_trainer(Path(folder), **arguments | QUIET | {"callbacks": own})
        fit(trainer, model, data)
    if (max_time := arguments.get("max_time")) is not None:
        stopwatch.cost.most_seconds = Timer(max_time).time_remaining()
    return stopwatch.cost
