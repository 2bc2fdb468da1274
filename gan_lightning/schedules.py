"""Schedules: a quantity as a function of the generator updates made so far."""

import copy
import math
from abc import ABC, abstractmethod
from typing import TypeVar

from gan_lightning.errors import InputError

S = TypeVar("S", bound="Schedule")


class Schedule(ABC):
    """Maps the number of generator updates made so far to a value.

    Args:
        steps: generator updates after which the value is ``end`` and stays; null ends with the run. If a paper counts
            images, divide by the global batch size.
        start: value at the beginning.
        end: value at the end.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(self, steps: int | None = None, start: float = 1.0, end: float = 0.0) -> None:
        if steps is not None and steps < 1:
            raise InputError(f"steps of a schedule is {steps}: use at least 1, or null to end with the run")
        if not (0 <= start < math.inf and 0 <= end < math.inf):
            raise InputError(f"start of a schedule is {start} and end is {end}: use at least 0 for both")
        self.steps, self.start, self.end = steps, start, end

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Compute the value after ``step`` generator updates."""

    @property
    def length(self) -> int:
        """Generator updates after which the value is ``end``.

        Raises:
            ValueError: the schedule ends with a run of unknown length; :meth:`over` sets it.
        """
        if self.steps is None:
            raise ValueError("this schedule ends with the run: call schedule.over(length) and use the result")
        return self.steps

    def over(self: S, length: int) -> S:
        """Adapt to a run of ``length`` generator updates: a copy that ends there, or this schedule if it has ``steps``."""
        if self.steps is not None:
            return self
        resolved = copy.copy(self)
        resolved.steps = length
        return resolved


class LinearSchedule(Schedule):
    """From ``start`` to ``end`` in a straight line, then constant.

    Args:
        steps: generator updates after which the value is ``end`` and stays; null ends with the run.
        start: value at the beginning.
        end: value at the end.
        hold: share of the steps, from 0 to below 1, over which the value first stays ``start``. CycleGAN's learning rate
            (Zhu et al. 2017, section 4) has 0.5.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(self, steps: int | None = None, start: float = 1.0, end: float = 0.0, hold: float = 0.0) -> None:
        super().__init__(steps, start, end)
        if not 0 <= hold < 1:
            raise InputError(f"hold of a schedule is {hold}: use at least 0 and below 1")
        self.hold = hold

    def __call__(self, step: int) -> float:
        done = (step / self.length - self.hold) / (1 - self.hold)
        return self.start + (self.end - self.start) * min(max(done, 0.0), 1.0)


class CosineSchedule(Schedule):
    """From ``start`` to ``end`` along half a period of the cosine (Loshchilov and Hutter 2017, equation 5), then constant.

    Args:
        steps: generator updates, the warm-up included, after which the value is ``end`` and stays; null ends with the run.
        start: value after the warm-up.
        end: value at the end.
        warmup: generator updates over which the value first rises to ``start`` in a straight line, from 1 / ``warmup`` of it.
            A shorter run ends within the warm-up.

    Raises:
        InputError: a number out of range.
    """

    def __init__(self, steps: int | None = None, start: float = 1.0, end: float = 0.0, warmup: int = 0) -> None:
        super().__init__(steps, start, end)
        if warmup < 0 or (steps is not None and warmup >= steps):
            below = "" if steps is None else f" and below its steps, {steps}"
            raise InputError(f"warmup of a schedule is {warmup}: use at least 0{below}")
        self.warmup = warmup

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.start * (step + 1) / self.warmup
        done = min((step - self.warmup) / max(self.length - self.warmup, 1), 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2
