"""Base of the callbacks that measure during training: when, the best checkpoint, patience and logs."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from gan_lightning.callbacks.monitors import followers
from gan_lightning.callbacks.stop_signals import ends_run, is_interrupted
from gan_lightning.errors import InputError
from gan_lightning.metrics.features import Extractor
from gan_lightning.module import AdversarialModule
from gan_lightning.training import distributed
from gan_lightning.training.randomness import preserved_random_state
from gan_lightning.training.trainer import is_out_of_time

SAMPLES, SAMPLES_OF_IMAGENET = 5000, 1000
"""Default number of images of a measurement: fewer for imagenet, because it is slower than a classifier."""


class Measured(Protocol):
    """A prepared measurement."""

    @property
    def extractor(self) -> Extractor:
        """The extractor of its features."""

    def names(self) -> dict[str, str]:
        """Map the values of all metrics to their full names."""


class Measuring(Callback):
    """Base of the callbacks that measure a model, log ``metrics/*``, and keep the best as ``checkpoints/best.ckpt``.

    The last measurement is at the end of the run. Measuring leaves the random numbers of the training unchanged. A subclass
    makes its ``measurement``, passes it to :meth:`_begin`, and evaluates it.

    Args:
        larger_is_better: value -> direction of each value that can be the best.
        best: value that selects ``best.ckpt``.
        every_n_steps: generator updates between two measurements; 0 ignores updates.
        every_n_epochs: epochs between two measurements; 0 ignores epochs.
        patience: measurements without an improvement after which the run stops; 0 never stops it.
        least: other arguments, name -> smallest value and value.

    Attributes:
        measurement: the measurement, from the beginning of the training; None if nothing is measured.
        best_name: full name of the value that selects ``best.ckpt``, with :attr:`best_value` at :attr:`best_step`.
        misses: measurements since then.

    Raises:
        InputError: a number is out of range, or ``best`` is no value of the metrics.
    """

    def __init__(
        self,
        larger_is_better: Mapping[str, bool],
        best: str,
        every_n_steps: int,
        every_n_epochs: int,
        patience: int,
        least: Mapping[str, tuple[int, int]],
    ) -> None:
        own = {"every_n_steps": every_n_steps, "every_n_epochs": every_n_epochs, "patience": patience}
        for name, (smallest, value) in ({name: (0, value) for name, value in own.items()} | dict(least)).items():
            if value < smallest:
                raise InputError(f"metrics.{name} is {value}: use at least {smallest}")
        if best not in larger_is_better:
            raise InputError(
                f"metrics.best is {best!r}, which is not a value of the metrics: use one of {', '.join(larger_is_better)}"
            )
        self.best, self._larger_is_better = best, dict(larger_is_better)
        self.every_n_steps, self.every_n_epochs, self.patience = every_n_steps, every_n_epochs, patience
        self.best_name, self.best_value, self.best_step, self.misses = "", float("nan"), -1, 0
        self.measurement: Measured | None = None
        self._folder = Path()
        self._followers: list[EarlyStopping | ModelCheckpoint] = []

    @abstractmethod
    def _samplers(self, model: Any) -> list[nn.Module]:
        """List the networks that are measured."""

    @abstractmethod
    def _evaluate(self, model: Any, measurement: Any) -> dict[str, float]:
        """Compute the metrics of the model in its present state.

        Raises:
            InputError: a process fails, or has received a signal.
        """

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("best_name", "best_value", "best_step", "misses")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"

    def _begin(self, trainer: Trainer, measurement: Measured | None) -> None:
        """Measure by ``measurement`` from now on, or nothing.

        Raises:
            InputError: another callback monitors a value that is not measured, or ``best`` is not measured.
        """
        self.measurement = measurement
        names = {} if measurement is None else measurement.names()
        directions = {
            f"metrics/{name}": self._larger_is_better[value] for value, name in names.items() if value in self._larger_is_better
        }
        self._followers = followers(trainer, directions)
        if measurement is None:
            return
        if self.best not in names:
            raise InputError(f"metrics.best is {self.best!r}, which is not measured here: use one of {', '.join(names)}")
        name = names[self.best]
        if self.best_name != name:  # also if a resumed run measures something else now
            self.best_name, self.best_value, self.best_step, self.misses = name, float("nan"), -1, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure at the end of a step, for the reason in ``Checkpoints``, and before checkpoints are saved."""
        if self.measurement is not None and self._is_due(trainer):
            self._measure(trainer, pl_module, self.measurement)

    def _is_due(self, trainer: Trainer) -> bool:
        step, epochs = trainer.global_step, trainer.current_epoch + 1
        out_of_time = is_out_of_time(trainer) and not is_interrupted(trainer)
        if step == trainer.max_steps or out_of_time or (self.every_n_steps and step % self.every_n_steps == 0):
            return True
        ends_epoch = self.every_n_epochs and epochs % self.every_n_epochs == 0
        return bool(trainer.is_last_batch and (ends_epoch or epochs == trainer.max_epochs))

    def _measure(self, trainer: Trainer, pl_module: LightningModule, measurement: Measured) -> None:
        assert isinstance(pl_module, AdversarialModule)
        for network in self._samplers(pl_module):
            distributed.broadcast_(list(network.buffers()))  # each process has its own running moments
        try:
            with preserved_random_state(pl_module.device):  # a generator may draw noise
                values = self._evaluate(pl_module, measurement)
        except InputError:  # in all processes
            if not ends_run(trainer):
                raise
            pl_module.print(f"step {trainer.global_step:,}: a signal ended the measurement")
            return
        grouped = {f"metrics/{name}": value for name, value in values.items()}
        pl_module.log_dict(grouped, logger=False, on_step=True, on_epoch=False)  # for callbacks that monitor
        for logger in trainer.loggers:
            logger.log_metrics(grouped, step=trainer.global_step)
        value = values[self.best_name]
        larger = self._larger_is_better[self.best]
        better = self.best_step < 0 or (value > self.best_value if larger else value < self.best_value)
        self.misses = 0 if better else self.misses + 1
        if better:
            self.best_value, self.best_step = value, trainer.global_step
            if trainer.checkpoint_callback is not None:
                trainer.save_checkpoint(self._folder / "best.ckpt", weights_only=False)
        pl_module.print(
            f"step {trainer.global_step:,}: "
            + ", ".join(f"{name} {value:.4g}" for name, value in values.items() if not name.endswith("_std"))
            + (" (the best so far)" if better else "")
        )
        for callback in self._followers:
            callback.on_validation_end(trainer, pl_module)
        if self.patience and self.misses >= self.patience:
            pl_module.print(
                f"the run stops, because {self.best_name} has not improved in {self.misses} measurements. The best was "
                f"{self.best_value:.4g} at step {self.best_step:,}"
            )
            trainer.should_stop = True
