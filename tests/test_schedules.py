"""Schedules against their closed forms."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from gan_lightning.schedules import CosineSchedule, LinearSchedule, Schedule
from tests.helpers import refuses

SCHEDULES = [LinearSchedule, CosineSchedule]


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.2, 0.8), (0.9, 0.99), (3.0, 3.0)])
def test_linear(start: float, end: float) -> None:
    schedule = LinearSchedule(8, start, end)
    for step, value in ((0, start), (2, (3 * start + end) / 4), (4, (start + end) / 2), (6, (start + 3 * end) / 4)):
        assert schedule(step) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.2, 0.8), (0.9, 0.99), (3.0, 3.0)])
def test_cosine(start: float, end: float) -> None:
    """Halfway it is the mean; after a quarter it is (1 + cos 45 degrees) / 2 = 0.854 of the start plus the rest of the end."""
    schedule = CosineSchedule(8, start, end)
    near = (1 + math.sqrt(0.5)) / 2
    for step, value in (
        (0, start),
        (2, near * start + (1 - near) * end),
        (4, (start + end) / 2),
        (6, (1 - near) * start + near * end),
    ):
        assert schedule(step) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.0, 1.0), (0.2, 0.8)])
@pytest.mark.parametrize("steps", [1, 7])
def test_a_schedule_stays_at_its_end(kind: type[LinearSchedule], start: float, end: float, steps: int) -> None:
    schedule = kind(steps, start, end)
    assert schedule(0) == pytest.approx(start, rel=1e-12)
    assert schedule(steps - 1) != pytest.approx(end, abs=1e-3)
    for step in (steps, steps + 1, 1000 * steps):
        assert schedule(step) == pytest.approx(end, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_from_one_to_zero_by_default(kind: type[LinearSchedule]) -> None:
    schedule = kind(10)
    values = [schedule(step) for step in range(11)]
    assert values[0] == 1
    assert values[10] == pytest.approx(0, abs=1e-15)
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 11
    assert min(values) >= 0


def test_cosine_warms_up_to_its_start() -> None:
    """It rises over 4 updates in quarters, from a quarter on; then it falls over the remaining steps."""
    schedule = CosineSchedule(12, start=2.0, end=1.0, warmup=4)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0], rel=1e-12)
    assert schedule(6) == pytest.approx(1 + (1 + math.sqrt(0.5)) / 2, rel=1e-12)
    assert schedule(8) == pytest.approx(1.5, rel=1e-12)
    assert schedule(12) == schedule(99) == pytest.approx(1.0, rel=1e-12)


def test_a_warm_up_of_all_but_one_update() -> None:
    schedule = CosineSchedule(4, start=3.0, end=0.5, warmup=3)
    assert [schedule(step) for step in range(6)] == pytest.approx([1, 2, 3, 3, 0.5, 0.5], rel=1e-12)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"steps": 0}, "steps of a schedule is 0"),
        ({"steps": -5}, "steps of a schedule is -5"),
        ({"steps": 5, "start": -0.1}, "start of a schedule is -0.1"),
        ({"steps": 5, "end": -2.0}, "end is -2.0"),
        ({"steps": 5, "start": float("nan")}, "start of a schedule is nan"),
        ({"steps": 5, "end": float("inf")}, "end is inf"),
    ],
)
def test_numbers_out_of_range(kind: Callable[..., Schedule], arguments: dict[str, Any], named: str) -> None:
    with refuses(named):
        kind(**arguments)


@pytest.mark.parametrize("steps", [8, None])
def test_linear_holds_its_start_first(steps: int | None) -> None:
    """CycleGAN's learning rate: constant over the first half of the run, then in a straight line to zero."""
    schedule = LinearSchedule(steps, hold=0.5).over(8)
    assert [schedule(step) for step in range(10)] == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0], abs=1e-12)
    rises = LinearSchedule(10, start=0.2, end=1.0, hold=0.2)
    assert [rises(step) for step in (0, 2, 6, 10)] == pytest.approx([0.2, 0.2, 0.6, 1.0])


@pytest.mark.parametrize("hold", [-0.1, 1.0, 2.0, float("nan")])
def test_a_hold_out_of_range(hold: float) -> None:
    with refuses(f"hold of a schedule is {hold}"):
        LinearSchedule(5, hold=hold)


@pytest.mark.parametrize("warmup", [-1, 5, 6])
def test_a_warm_up_out_of_range(warmup: int) -> None:
    with refuses(f"warmup of a schedule is {warmup}", "5"):
        CosineSchedule(5, warmup=warmup)


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule(), CosineSchedule(start=2.0, end=1.0, warmup=4)])
def test_without_steps_a_schedule_ends_with_each_run(schedule: Schedule) -> None:
    for length in (20, 8):
        resolved = schedule.over(length)
        assert resolved(length) == pytest.approx(schedule.end, abs=1e-12)
        assert resolved(length - 1) > schedule.end + 1e-3
        assert schedule.steps is None
    with pytest.raises(ValueError, match="over"):
        schedule(5)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_given_steps_win(kind: Callable[..., Schedule]) -> None:
    schedule = kind(10)
    assert schedule.over(1000)(10) == schedule(10) == pytest.approx(0, abs=1e-12)
    assert schedule.over(5)(5) == pytest.approx(0.5)


def test_a_run_that_is_shorter_than_the_warm_up_ends_within_it() -> None:
    schedule = CosineSchedule(warmup=8).over(4)
    assert [schedule(step) for step in range(4)] == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8], rel=1e-12)
