"""How a quantity changes over a run, as a function of the generator updates that are done."""

import math
from abc import ABC, abstractmethod

from gan_lightning.errors import InputError


class Schedule(ABC):
    """Maps the number of generator updates done so far to a value.

    Args:
        steps: generator updates after which the value is ``end`` and stays. Where a paper tells images, divide by the
            global batch size.
        start: the value at first.
        end: the value at last.

    Raises:
        InputError: a number out of range.
    """

    def __init__(self, steps: int, start: float = 1.0, end: float = 0.0) -> None:
        if steps < 1:
            raise InputError(f"a schedule's steps is {steps}: it must be at least 1")
        if not (0 <= start < math.inf and 0 <= end < math.inf):
            raise InputError(f"a schedule's start is {start} and its end {end}: both must be at least 0")
        self.steps, self.start, self.end = steps, start, end

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The value after ``step`` generator updates."""


class LinearSchedule(Schedule):
    """From ``start`` to ``end`` in a straight line over ``steps`` generator updates, then constant."""

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


class CosineSchedule(Schedule):
    """From ``start`` to ``end`` along half a period of the cosine (Loshchilov and Hutter 2017, equation 5), then constant.

    Args:
        steps: generator updates, the warm-up included, after which the value is ``end`` and stays.
        start: the value after the warm-up.
        end: the value at last.
        warmup: generator updates over which the value first rises to ``start`` in a straight line, from 1 / ``warmup`` of it.

    Raises:
        InputError: a number out of range.
    """

    def __init__(self, steps: int, start: float = 1.0, end: float = 0.0, warmup: int = 0) -> None:
        super().__init__(steps, start, end)
        if not 0 <= warmup < steps:
            raise InputError(f"a schedule's warmup is {warmup}: it must be at least 0, and below its steps, {steps}")
        self.warmup = warmup

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.start * (step + 1) / self.warmup
        done = min((step - self.warmup) / (self.steps - self.warmup), 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2
