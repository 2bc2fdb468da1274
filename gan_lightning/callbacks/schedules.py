"""What changes as the run goes on: learning rates, beta2, and the weights of penalty, average and augmentation."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.schedules import Schedule
from gan_lightning.trainer import total_steps

SCHEDULED = ("learning_rate", "beta2", "penalty", "ema_halflife", "augmentation")
"""Arguments of :class:`Schedules` that are schedules."""


class Schedules(Callback):
    """Sets, before each training step, what the schedules say for it. Each is a function of the generator updates done, so
    that a run which is resumed goes on where it was. A schedule without ``steps`` ends with the run.

    Args:
        learning_rate: a factor on the learning rates of both optimizers, which may differ (two time-scale update rule;
            Heusel et al. 2017).
        beta2: the second beta of both optimizers itself.
        penalty: a factor on the penalties.
        ema_halflife: a factor on the half-life of the generator's average.
        augmentation: a factor on the probability of the augmentation, at most 1.

    Raises:
        InputError: a schedule for what is not there, or one without ``steps`` in a run that only a time ends.
    """

    def __init__(
        self,
        learning_rate: Schedule | None = None,
        beta2: Schedule | None = None,
        penalty: Schedule | None = None,
        ema_halflife: Schedule | None = None,
        augmentation: Schedule | None = None,
    ) -> None:
        for name, schedule, limit in (("beta2", beta2, "below 1"), ("augmentation", augmentation, "at most 1")):
            largest = 0.0 if schedule is None else max(schedule.start, schedule.end)
            if largest > 1 or (largest == 1 and schedule is beta2):
                raise InputError(f"schedules.{name} goes up to {largest}: it must be {limit}")
        self.learning_rate, self.beta2, self.penalty = learning_rate, beta2, penalty
        self.ema_halflife, self.augmentation = ema_halflife, augmentation
        self._factors: dict[str, Schedule] = {}  # name -> schedule over its length in this run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        there = {
            "penalty": pl_module.penalties,
            "ema_halflife": pl_module.ema is not None,
            "augmentation": pl_module.augmentation is not None,
            "beta2": all("betas" in optimizer.defaults for optimizer in trainer.optimizers),
        }
        for name, found in there.items():
            if getattr(self, name) is not None and not found:
                missing = "an optimizer has no betas" if name == "beta2" else f"model.{name} is not set"
                raise InputError(f"schedules.{name} has nothing to change: {missing}; set it, or leave the schedule out")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        given = {name: getattr(self, name) for name in SCHEDULED}
        given = {name: schedule for name, schedule in given.items() if schedule is not None}
        open_ended = [name for name, schedule in given.items() if schedule.steps is None]
        length = total_steps(trainer)
        if open_ended and length is None:
            raise InputError(
                f"schedules.{open_ended[0]} ends with the run, and a time alone does not say after how many updates that is: "
                "add --max_steps N (--dry_run reports how many updates fit)"
            )
        self._factors = {name: schedule.over(length) for name, schedule in given.items()}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, GAN)
        now = {name: schedule(trainer.global_step) for name, schedule in self._factors.items()}
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if "learning_rate" in now:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * now["learning_rate"]
                if "beta2" in now:
                    group["betas"] = (group["betas"][0], now["beta2"])
        if "penalty" in now:
            pl_module.penalty_factor = now["penalty"]
        if "ema_halflife" in now:
            pl_module.ema_factor = now["ema_halflife"]
        if "augmentation" in now:
            assert pl_module.augmentation is not None
            pl_module.augmentation.strength = now["augmentation"]
