"""Curves of runs that are resumed."""

from pathlib import Path

import pytest
import torch

from gan_lightning.training.loggers import make_loggers
from tests.helpers import await_next_second, curves


@pytest.mark.parametrize("begun_at", [0, 10])
def test_points_after_the_step_of_resuming_are_replaced(begun_at: int, tmp_path: Path) -> None:
    """Also those of a run that was killed before its first checkpoint with steps."""

    def log(begun_at: int, last: int, value: float) -> None:
        for logger in make_loggers(["tensorboard", "csv"], tmp_path, begun_at):
            for step in range(begun_at + 5, last + 1, 5):
                logger.log_metrics({"train/loss": torch.tensor(value)}, step)  # type: ignore[dict-item]
            logger.finalize("success")

    log(0, 20, 1.0)
    await_next_second(tmp_path)
    log(begun_at, 15, 2.0)
    assert curves(tmp_path)["train/loss"] == {step: 1.0 if step <= begun_at else 2.0 for step in (5, 10, 15)}
