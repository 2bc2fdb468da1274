"""Checkpoints, to resume a run and to sample from it."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gan_lightning.errors import Diverged, InputError
from gan_lightning.files import remove_temporary_files


class Checkpoints(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` at the start, at the end of each epoch and of the run, and at regular steps between.

    It replaces Lightning's ModelCheckpoint. With two optimizers that one warns of missing states, and the project needs no
    more than this.

    Args:
        every_n_steps: generator updates between two saves of ``last.ckpt`` within an epoch; 0 saves only at its end.
        every_n_epochs: epochs between two numbered checkpoints, such as ``epoch_003.ckpt`` after three complete epochs; 0
            keeps none.
        keep: number of numbered checkpoints to keep, the newest; 0 keeps all.

    Attributes:
        saved_at: step of ``last.ckpt``; -1 if this process has not saved any.

    Raises:
        InputError: a number is below 0.
    """

    def __init__(self, every_n_steps: int = 1000, every_n_epochs: int = 0, keep: int = 5) -> None:
        for name, number in {"every_n_steps": every_n_steps, "every_n_epochs": every_n_epochs, "keep": keep}.items():
            if number < 0:
                raise InputError(f"checkpoints.{name} is {number}: use at least 0")
        self.every_n_steps, self.every_n_epochs, self.keep = every_n_steps, every_n_epochs, keep
        self.saved_at = -1
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"
        if trainer.is_global_zero:
            remove_temporary_files(self._folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at once, so that a run can be resumed whenever its process dies."""
        epochs = trainer.fit_loop.epoch_progress.current
        if epochs.ready == trainer.current_epoch:  # the number of complete epochs
            # After a resume from an epoch's last step, Lightning treats the next epoch as one already under way and does not
            # count its start. A checkpoint saved within that epoch would then resume at its first image.
            trainer.fit_loop.reset_restart_stage()
        self.saved_at = -1
        if trainer.global_step == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save_last(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save at the end of a step, including the last one of an epoch or of the run.

        Not in ``on_train_epoch_end``: Lightning calls it also if a run stops within an epoch, and counts that epoch as
        complete. A checkpoint saved there would resume with the next epoch's images.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        step = trainer.global_step
        if trainer.is_last_batch or trainer.should_stop or step == trainer.max_steps or self._is_due(step):
            self._save_last(trainer)
        epochs = trainer.current_epoch + 1
        if trainer.is_last_batch and self.every_n_epochs and epochs % self.every_n_epochs == 0:
            trainer.save_checkpoint(self._folder / f"epoch_{epochs:03d}.ckpt", weights_only=False)
            self._remove_old(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.saved_at != trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save_last(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Diverged) and (path := self._folder / "last.ckpt").is_file():
            exception.last_checkpoint = path  # so that every process knows it

    def _is_due(self, step: int) -> bool:
        return bool(self.every_n_steps) and step % self.every_n_steps == 0

    def _save_last(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self._folder / "last.ckpt", weights_only=False)
        self.saved_at = trainer.global_step

    def _remove_old(self, trainer: Trainer) -> None:
        found = (path for path in self._folder.glob("epoch_*.ckpt") if path.stem.removeprefix("epoch_").isdecimal())
        numbered = sorted(found, key=lambda path: int(path.stem.removeprefix("epoch_")))
        if self.keep and trainer.is_global_zero:
            for old in numbered[: -self.keep]:
                old.unlink()
