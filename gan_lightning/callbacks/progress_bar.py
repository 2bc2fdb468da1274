"""One progress bar for the whole run."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from gan_lightning.callbacks.training_log import TrainingLog
from gan_lightning.training.trainer import total_steps

SHOWN = {
    "discriminator_loss": "D",
    "generator_loss": "G",
    "images_per_second": "images/s",
}


class ProgressBar(TQDMProgressBar):
    """A bar with the run's generator updates, the time left, and the losses and images/s that were logged last.

    Args:
        refresh_rate: steps from one drawing to the next; a drawing costs about a millisecond. 0 draws nothing.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        bar = self.train_progress_bar
        bar.total = total_steps(trainer)
        bar.initial = bar.n = trainer.global_step  # after a resume, the speed counts this run's steps only
        bar.set_description("Training")

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Do nothing: the bar continues from epoch to epoch."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self.is_enabled and (step % self.refresh_rate == 0 or step == self.train_progress_bar.total):
            self._draw(trainer, step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: see :meth:`on_train_epoch_start`."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_enabled:
            self._draw(trainer, trainer.global_step)
        super().on_train_end(trainer, pl_module)

    def _draw(self, trainer: Trainer, step: int) -> None:
        log = next((callback for callback in trainer.callbacks if isinstance(callback, TrainingLog)), None)  # type: ignore[attr-defined]
        values = {} if log is None else log.latest
        bar = self.train_progress_bar
        bar.set_postfix(
            {
                short: f"{values[name]:.3g}" if name != "images_per_second" else f"{values[name]:,.0f}"
                for name, short in SHOWN.items()
                if name in values
            },
            refresh=False,
        )
        bar.n = step
        bar.refresh()
