"""Base of the monitors of a training's health: when to measure, and when to report a symptom or its end."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.errors import InputError
from gan_lightning.files import link
from gan_lightning.health import Symptom
from gan_lightning.module import AdversarialModule
from gan_lightning.training import distributed

BEGINNING = 3
"""Measurements at the start that are ignored: an untrained generator draws one grey image."""
CONFIRMED = 2
"""Consecutive measurements needed to report or to clear a symptom."""


class SymptomMonitor(Callback):
    """Base of the callbacks that measure the health of a training, log it as ``health/*``, and report symptoms.

    The first measurements are ignored, because training has only begun. A symptom counts if two measurements in a row show
    it. The last checkpoint before a symptom is kept as ``checkpoints/healthy.ckpt``. A subclass measures the values.

    Args:
        every_n_steps: generator updates between two measurements; 0 measures nothing.
        stop: end the run when a symptom is found.

    Attributes:
        symptoms: the failures that are looked for.
        is_ready: True once there is something to measure.

    Raises:
        InputError: a number is below 0.
    """

    symptoms: ClassVar[tuple[Symptom, ...]]

    def __init__(self, every_n_steps: int, stop: bool) -> None:
        if every_n_steps < 0:
            raise InputError(f"health.every_n_steps is {every_n_steps}: use at least 0")
        self.every_n_steps, self.stop, self.is_ready = every_n_steps, stop, False
        self.latest: dict[str, float] = {}
        """Values of the last measurement, by name."""
        self.found: dict[str, int] = {}
        """Symptom -> a count from 0 to CONFIRMED: a measurement with the symptom adds one, any other subtracts one."""
        self.reported: list[str] = []
        """Symptoms that were reported, since the run began or was resumed, and are not cleared yet."""
        self.last_symptom_step = 0
        """Step of the last measurement with a symptom; 0 if there was none."""
        self.measured = 0
        """Number of measurements so far."""
        self._healthy_step = -1  # the step of healthy.ckpt
        self._folder = Path()

    @abstractmethod
    def _measure(self, model: Any) -> Mapping[str, Tensor]:
        """Measure every value, each ()."""

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.found, "ill_step": self.last_symptom_step, "measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.found, self.last_symptom_step = dict(state_dict["found"]), state_dict["ill_step"]
        self.measured = state_dict["measured"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if not self.is_ready or trainer.global_step % self.every_n_steps:
            return
        pl_module.require_finite()
        values = self._measure(pl_module)
        own = torch.stack([value.float() for value in values.values()]).to(pl_module.device)
        averaged = distributed.mean(own).tolist()  # so that all processes reach the same conclusion
        self.latest = dict(zip(values, averaged, strict=True))
        for logger in trainer.loggers:
            logger.log_metrics({f"health/{name}": value for name, value in self.latest.items()}, step=trainer.global_step)
        self.measured += 1
        if self.measured > BEGINNING:
            self._update_symptoms(trainer)

    def _update_symptoms(self, trainer: Trainer) -> None:
        """Report the symptoms that have appeared and those that have cleared."""
        step = trainer.global_step
        now = {symptom.name for symptom in self.symptoms if symptom.is_present(self.latest)}
        for symptom in self.symptoms:
            change = 1 if symptom.name in now else -1
            self.found[symptom.name] = min(CONFIRMED, max(0, self.found.get(symptom.name, 0) + change))
            if self.found[symptom.name] == CONFIRMED and symptom.name not in self.reported:
                self.reported.append(symptom.name)
                end = " The run stops here." if self.stop else ""
                model = trainer.lightning_module
                remedies = " or ".join(remedy.text for remedy in symptom.remedies if not remedy.is_taken(model))
                self._print(trainer, f"{symptom.text(self.latest)}. {self._last_good()}. Try {remedies}.{end}")
                trainer.should_stop = trainer.should_stop or self.stop
            if self.found[symptom.name] == 0 and symptom.name in self.reported:
                self.reported.remove(symptom.name)
                self._print(trainer, f"the {symptom.name} is over")
        if now:
            self.last_symptom_step = step
        else:
            self._keep_healthy(trainer)

    def _print(self, trainer: Trainer, text: str) -> None:
        if trainer.is_global_zero:
            print(f"\nstep {trainer.global_step:,}: {text}", flush=True)

    def _keep_healthy(self, trainer: Trainer) -> None:
        """Keep the last checkpoint under a second name if it was saved between two measurements without a symptom."""
        checkpoints = (callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
        saved_at = next((callback.saved_at for callback in checkpoints), -1)
        if trainer.is_global_zero and saved_at >= max(self.last_symptom_step + self.every_n_steps, self._healthy_step + 1):
            link(self._folder / "last.ckpt", self._folder / "healthy.ckpt")
            self._healthy_step = saved_at

    def _last_good(self) -> str:
        healthy = self._folder / "healthy.ckpt"
        return f"Last good checkpoint: {healthy}" if healthy.is_file() else "There is no good checkpoint"


def ratio(one: Tensor, other: Tensor) -> Tensor:
    """Divide two scalars; NaN if the second is 0."""
    return torch.where(other > 0, one / other, float("nan"))


@contextmanager
def restored_buffers(model: nn.Module) -> Iterator[None]:
    """Restore running moments and other buffers after the block."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
