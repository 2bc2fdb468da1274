"""Lightning's callbacks that monitor a value of this project."""

from collections.abc import Mapping

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from gan_lightning.errors import InputError

OUR_GROUPS = ("metrics/", "train/", "health/")
"""Groups of this project's curves. Lightning's callbacks can monitor those of ``metrics/`` only."""


def followers(trainer: Trainer, larger_is_better: Mapping[str, bool]) -> list[EarlyStopping | ModelCheckpoint]:
    """Find the callbacks that monitor a measured value, and make each measurement their validation.

    By default they look at the values at the end of each epoch, measured or not.

    Args:
        trainer: the trainer with the callbacks.
        larger_is_better: name of each value that is measured -> its direction.

    Raises:
        InputError: a callback monitors a value that is not measured, or in the wrong direction.
    """
    found = []
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    modules = {type(part).__module__.partition(".")[0] for part in (trainer.lightning_module, *callbacks)}
    custom = bool(modules - {"gan_lightning", "lightning"})  # may log values of its own
    for callback in callbacks:
        if not isinstance(callback, EarlyStopping | ModelCheckpoint) or (monitor := callback.monitor) is None:
            continue
        if custom and not monitor.startswith(OUR_GROUPS):
            continue
        flag = f"--trainer.callbacks {type(callback).__name__}"
        if monitor not in larger_is_better:
            choices = f"monitor one of {', '.join(larger_is_better)}" if larger_is_better else "set --metrics.extractor"
            raise InputError(f"{flag}: {monitor} is not measured: {choices}")
        mode = "max" if larger_is_better[monitor] else "min"
        if callback.mode != mode:
            raise InputError(f"{flag}: mode {callback.mode} is wrong for {monitor}: add --trainer.callbacks.mode={mode}")
        if isinstance(callback, EarlyStopping):
            callback._check_on_train_epoch_end = False
        elif callback._every_n_train_steps:
            raise InputError(f"{flag}: every_n_train_steps excludes a monitor: remove it, and use --metrics.every_n_steps")
        else:
            callback._save_on_train_epoch_end = False
        found.append(callback)
    return found
