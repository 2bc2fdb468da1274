"""The curves: losses, probabilities, gradient norms, speed and learning rates."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from gan_lightning.gan import GAN


class TrainingLog(Callback):
    """Writes what :meth:`GAN.training_step` returns, averaged over ``log_every_n_steps`` steps, as ``train/*``.

    Between two writes the outputs are summed on the device: nothing waits for it, and ``self.log``, which costs half a
    millisecond a value and step whatever the interval, is never called. Beside the outputs stand the gradient norms of
    both networks at the step that is written, the learning rates, and real images per second (generator updates times the
    global batch size, over the time since the last write, whatever was done in it).

    Attributes:
        latest: the values that were written last, by name, for the progress bar.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._images = 0
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._sums, self._steps, self._images = {}, 0, 0
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, GAN)
        assert isinstance(outputs, Mapping)
        if self._sums:
            torch._foreach_add_(list(self._sums.values()), list(outputs.values()))
        else:
            self._sums = {name: value.clone() for name, value in outputs.items()}
        self._steps += 1
        self._images += len(batch[0]) // pl_module.real_batches_per_step * trainer.world_size
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and trainer.global_step % every == 0:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._steps:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        values = {name: value.float() / self._steps for name, value in self._sums.items()}
        for name, optimizer in zip(("generator", "discriminator"), trainer.optimizers, strict=True):
            values[f"{name}_gradient_norm"] = _gradient_norm(optimizer)
        packed = trainer.strategy.reduce(torch.stack(list(values.values())), reduce_op="mean")
        assert isinstance(packed, Tensor)
        written = dict(zip(values, packed.tolist(), strict=True))  # the one wait for the device in the interval
        now = time.perf_counter()
        written["images_per_second"] = self._images / (now - self._since)
        for name, optimizer in zip(("generator", "discriminator"), trainer.optimizers, strict=True):
            written[f"{name}_learning_rate"] = optimizer.param_groups[0]["lr"]
        for logger in trainer.loggers:
            logger.log_metrics({f"train/{name}": value for name, value in written.items()}, step=trainer.global_step)
        self.latest = written
        self._sums, self._steps, self._images, self._since = {}, 0, 0, now


def _gradient_norm(optimizer: Optimizer) -> Tensor:
    """The Euclidean norm of the gradients that the optimizer used last."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).float()
