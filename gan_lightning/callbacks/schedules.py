"""Schedules of the learning rates, of beta2, of the penalties, of the average and of the augmentation."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.errors import InputError
from gan_lightning.module import AdversarialModule, TwoNetworks
from gan_lightning.schedules import Schedule
from gan_lightning.training.trainer import total_steps


class Schedules(Callback):
    """Sets each scheduled quantity before each training step.

    A schedule is a function of the generator updates made so far, so that a resumed run continues it. A schedule without
    ``steps`` ends with the run; if a run is resumed with another length, one line reports it.

    Args:
        learning_rate: factor on the learning rates of both optimizers. The two rates may differ (two time-scale update rule;
            Heusel et al. 2017).
        beta2: value of the second beta of both optimizers.
        penalty: factor on the penalties.
        ema_halflife: factor on the half-life of the generator's average.
        augmentation: factor on the probability of the augmentation, at most 1.

    Attributes:
        given: schedules that are set, by argument name.

    Raises:
        InputError: a schedule has nothing to change, or it has no ``steps`` and only a time ends the run.
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
                raise InputError(f"schedules.{name} reaches {largest}: keep it {limit}")
        arguments = {
            "learning_rate": learning_rate,
            "beta2": beta2,
            "penalty": penalty,
            "ema_halflife": ema_halflife,
            "augmentation": augmentation,
        }
        self.given = {name: schedule for name, schedule in arguments.items() if schedule is not None}
        self._in_this_run: dict[str, Schedule] = {}
        self._length: int | None = None  # of this run; None if no schedule ends with it
        self._length_before: int | None = None  # of the run that is resumed

    @property
    def without_steps(self) -> list[str]:
        """Names of the schedules that end with the run."""
        return [name for name, schedule in self.given.items() if schedule.steps is None]

    def require_length(self, length: int | None, fits: str = "N (--dry_run reports how many updates fit)") -> None:
        """Refuse schedules without ``steps`` for a run that only a time ends.

        Args:
            length: generator updates of the whole run; None if only a time ends it.
            fits: the number of updates to recommend.

        Raises:
            InputError: there is such a schedule and no length.
        """
        if length is None and self.without_steps:
            raise InputError(
                f"schedules.{self.without_steps[0]} ends with the run, but --max_time alone leaves its number of updates open: "
                f"add --max_steps {fits}"
            )

    def state_dict(self) -> dict[str, Any]:
        return {} if self._length is None else {"length": self._length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._length_before = state_dict["length"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        available = {
            "penalty": isinstance(pl_module, TwoNetworks) and pl_module.penalties,
            "ema_halflife": pl_module.averages(),
            "augmentation": isinstance(pl_module, TwoNetworks) and pl_module.augmentation is not None,
            "beta2": all("betas" in optimizer.defaults for optimizer in trainer.optimizers),
        }
        for name, found in available.items():
            if name in self.given and not found:
                missing, remedy = f"model.{name} is not set", "set it, or remove the schedule"
                if name == "beta2":
                    missing, remedy = "an optimizer has no betas", "use Adam for both, or remove the schedule"
                raise InputError(f"schedules.{name} has nothing to change, because {missing}: {remedy}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the schedules without ``steps`` end with the run: its length is known by now."""
        length, before = total_steps(trainer), self._length_before
        self.require_length(length)
        self._in_this_run = self.given if length is None else {name: s.over(length) for name, s in self.given.items()}
        self._length, self._length_before = length if self.without_steps else None, None
        if before is not None and self._length not in (before, None) and trainer.is_global_zero:
            change = f"schedules without steps run over {self._length:,} updates instead of {before:,}"
            print(f"From update {trainer.global_step:,} on, {change}", flush=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, AdversarialModule)
        step = trainer.global_step
        now = {name: schedule(step) for name, schedule in self._in_this_run.items()}
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if "learning_rate" in now:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * now["learning_rate"]
                if "beta2" in now:
                    group["betas"] = (group["betas"][0], now["beta2"])
        if "penalty" in now:
            assert isinstance(pl_module, TwoNetworks)
            pl_module.penalty_factor.fill_(now["penalty"])
        if "ema_halflife" in now:
            pl_module.ema_factor = now["ema_halflife"]
        if "augmentation" in now:
            assert isinstance(pl_module, TwoNetworks)
            assert pl_module.augmentation is not None
            pl_module.augmentation.strength.fill_(now["augmentation"])
