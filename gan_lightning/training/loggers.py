"""Loggers of a run, by name. A resumed run continues their curves."""

import csv
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from gan_lightning.files import keep_copy

LoggerName = Literal["tensorboard", "csv", "wandb"]
# Lightning advertises a logger at each start
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.getMessage())


class ResumableCSVLogger(CSVLogger):
    """Writes ``metrics.csv``. A resumed run keeps the rows up to its first step and logs the later ones again.

    Lightning's logger deletes the file of the earlier run. This one keeps it as ``metrics_1.csv``, ``metrics_2.csv`` and so on.

    Args:
        folder: folder of the run.
        begun_at: training steps completed when the run was resumed.
    """

    def __init__(self, folder: Path, begun_at: int) -> None:
        super().__init__(folder, name="", version="")
        self._begun_at = begun_at

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            earlier = Path(self.log_dir) / "metrics.csv"
            if earlier.is_file():
                with earlier.open(encoding="utf-8", newline="") as file:
                    rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
                keep_copy(earlier)
                writer = super().experiment
                writer.metrics = [row for row in rows if int(row["step"]) <= self._begun_at]
        return super().experiment


def _tensorboard(folder: Path, begun_at: int) -> Logger:
    """Make the logger. TensorBoard hides the earlier run's values after step ``begun_at``: they are logged again."""
    return TensorBoardLogger(folder, name="", version="", purge_step=begun_at + 1 if begun_at else None)


LOGGERS: dict[LoggerName, Callable[[Path, int], Logger]] = {
    "tensorboard": _tensorboard,
    "csv": ResumableCSVLogger,
    "wandb": lambda folder, _: WandbLogger(name=folder.name, save_dir=folder, project="gan_lightning"),
}


def make_loggers(names: LoggerName | Sequence[LoggerName] | bool, folder: Path, begun_at: int = 0) -> list[Logger]:
    """Make the loggers of a run.

    Args:
        names: one or several names; True is TensorBoard, False none.
        folder: folder of the run.
        begun_at: training steps completed when the run was resumed.
    """
    chosen: Sequence[LoggerName] = (
        ["tensorboard"] if names is True else [] if names is False else [names] if isinstance(names, str) else names
    )
    return [LOGGERS[name](folder, begun_at) for name in chosen]
