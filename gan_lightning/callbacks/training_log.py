"""Curves of losses, probabilities, gradient norms, speed and learning rates. Ends a run if one of its values is NaN."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from gan_lightning.errors import Diverged
from gan_lightning.module import AdversarialModule
from gan_lightning.training import distributed

DEFAULT_INTERVAL = 50
"""Steps between two checks of the values if ``log_every_n_steps`` is 0."""


class TrainingLog(Callback):
    """Logs the outputs of the model's ``training_step``, averaged over ``log_every_n_steps`` steps, as ``train/*``.

    Between two writes the outputs stay on the device, and nothing waits for it. ``self.log`` is never called: it costs half a
    millisecond per value and step, whatever the interval. Three more kinds of values are logged:

    - the gradient norms of both networks at the step of the write;
    - the learning rates;
    - real images per second: generator updates times the global batch size, divided by all the time since the last write.

    A value that is NaN or infinite ends the run within one interval, before a checkpoint with it is written.

    Attributes:
        latest: values of the last write, by name, for the progress bar.

    Raises:
        Diverged: a value is NaN or infinite; the message names the step and the cause.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self._names: list[str] = []
        self._rows: list[Tensor] = []  # (K,) for each step since those of _averaged
        self._averaged = torch.empty(0, 0)  # (N, K), over the processes, for the steps since the last write
        self._images = 0
        self._start_time = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Values of the steps since the last write, so that a resumed run writes the same means as an uninterrupted one."""
        return {"names": self._names, "rows": self._average().cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._names, self._averaged = state_dict["names"], state_dict["rows"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._averaged = self._averaged.to(pl_module.device)
        self._images, self._start_time = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AdversarialModule)
        assert isinstance(outputs, Mapping)
        self._names = list(outputs)
        self._rows.append(torch.stack(list(outputs.values())))
        self._images += len(batch[0]) // pl_module.real_batches_per_step * trainer.world_size
        if trainer.global_step % (trainer.log_every_n_steps or DEFAULT_INTERVAL) == 0:  # type: ignore[attr-defined]
            self._write(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._require_finite(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._rows or len(self._averaged):
            self._write(trainer)

    def _average(self) -> Tensor:
        """Average the values of each step since the last write, (N, K), over the processes."""
        if self._rows:
            rows = distributed.mean(torch.stack(self._rows).float())
            self._averaged = torch.cat([self._averaged, rows]) if len(self._averaged) else rows
            self._rows = []
        return self._averaged

    def _require_finite(self, last_step: int) -> None:
        rows = self._average()
        if len(rows) and not bool(rows.isfinite().all()):
            wrong = (~rows.isfinite()).cpu()
            first = int(wrong.any(1).nonzero()[0])
            step = last_step - len(rows) + 1 + first
            named = [name for name, is_wrong in zip(self._names, wrong[first].tolist(), strict=True) if is_wrong]
            raise Diverged(_divergence_message(step, named, float(rows[first, self._names.index(named[0])])))

    def _write(self, trainer: Trainer) -> None:
        means = self._average().mean(0)
        norms = [gradient_norm(optimizer).to(means.device) for optimizer in trainer.optimizers]
        numbers = torch.cat([means, torch.stack(norms)]).tolist()  # the one wait for the device in the interval
        if not all(map(math.isfinite, numbers)):
            self._require_finite(trainer.global_step)
        values = dict(zip([*self._names, "generator_gradient_norm", "discriminator_gradient_norm"], numbers, strict=True))
        now = time.perf_counter()
        values["images_per_second"] = self._images / (now - self._start_time)
        for name, optimizer in zip(("generator", "discriminator"), trainer.optimizers, strict=True):
            values[f"{name}_learning_rate"] = optimizer.param_groups[0]["lr"]
        for logger in trainer.loggers:
            logger.log_metrics({f"train/{name}": value for name, value in values.items()}, step=trainer.global_step)
        self.latest = values
        self._averaged, self._images, self._start_time = torch.empty(0, 0), 0, now


def _divergence_message(step: int, named: list[str], value: float) -> str:
    """Describe the step, the term that is not finite, and the cause, as far as the finite values show it.

    An update that is not finite, because its gradient is not or because it is too large, makes weights NaN, and then logits.
    If it was the generator's update, only the logits of generated images are NaN. If it was the discriminator's, only the
    generator's loss is, because it is computed after that update.
    """
    if named == ["generator_loss"]:
        return f"step {step:,}: the discriminator's gradient or update, or the generator_loss, is not finite (it is {value})"
    if "fake_probability" in named and "real_probability" not in named:
        return f"step {step - 1:,}: the generator's gradient or update is not finite ({named[0]} of step {step:,} is {value})"
    return f"step {step:,}: {named[0]} is {value}"


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """Euclidean norm of the gradients that the optimizer used last."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).float()
