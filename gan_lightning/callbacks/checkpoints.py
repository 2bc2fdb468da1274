"""What a run can be resumed from, and sampled from."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gan_lightning.errors import InputError


class Checkpoints(Checkpoint):
    """``checkpoints/last.ckpt`` at the end of each epoch and of the run, and numbered ones by choice.

    Lightning's ModelCheckpoint warns, with two optimizers, of states it does not have; all it would be used for is this.

    Args:
        every_n_steps: also renew ``last.ckpt`` every so many generator updates; 0 does not.
        every_n_epochs: keep ``epoch_003.ckpt`` and so on every so many epochs (the number is of epochs that are
            complete); 0 keeps none.
        keep: how many numbered ones are kept, the newest; 0 keeps all.

    Raises:
        InputError: a number below 0.
    """

    def __init__(self, every_n_steps: int = 0, every_n_epochs: int = 0, keep: int = 5) -> None:
        if min(every_n_steps, every_n_epochs, keep) < 0:
            raise InputError(
                f"checkpoints has every_n_steps {every_n_steps}, every_n_epochs {every_n_epochs}, keep {keep}: give at least 0"
            )
        self.every_n_steps, self.every_n_epochs, self.keep = every_n_steps, every_n_epochs, keep
        self._saved_at = -1
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_last(trainer)
        epochs = trainer.current_epoch + 1
        if self.every_n_epochs and epochs % self.every_n_epochs == 0:
            trainer.save_checkpoint(self._folder / f"epoch_{epochs:03d}.ckpt", weights_only=False)
            self._remove_old(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved_at != trainer.global_step:
            self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self._folder / "last.ckpt", weights_only=False)
        self._saved_at = trainer.global_step

    def _remove_old(self, trainer: Trainer) -> None:
        numbered = sorted(self._folder.glob("epoch_*.ckpt"), key=lambda path: int(path.stem.removeprefix("epoch_")))
        if self.keep and trainer.is_global_zero:
            for old in numbered[: -self.keep]:
                old.unlink()
