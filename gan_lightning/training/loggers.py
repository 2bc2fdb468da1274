"""Loggers of a run, by name. A resumed run continues their curves."""

import csv
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from gan_lightning.errors import InputError, one_line
from gan_lightning.files import keep_copy, write_aside

TIMEOUT = 30.0
"""Seconds to wait for the server of W&B, unless $WANDB_INIT_TIMEOUT is set."""
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


class ResumableWandbLogger(WandbLogger):
    """Logs to Weights & Biases. A run that is resumed in its folder continues its W&B run.

    The folder keeps the id of the W&B run in ``wandb_run_id.txt``. The project is $WANDB_PROJECT, else ``gan_lightning``.

    Args:
        folder: folder of the run.

    Raises:
        InputError: W&B refuses the run, for example because nobody is logged in, or its server cannot be reached.
    """

    def __init__(self, folder: Path) -> None:
        self._id_file = folder / "wandb_run_id.txt"
        self._known = self._id_file.read_text(encoding="utf-8", errors="replace").strip() if self._id_file.is_file() else ""
        project = os.environ.get("WANDB_PROJECT", "gan_lightning")
        timeout = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": TIMEOUT}
        super().__init__(name=folder.name, save_dir=folder, project=project, id=self._known or None, settings=timeout)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            import wandb

            try:
                run = super().experiment
            except (wandb.errors.Error, ValueError) as error:  # ValueError: a variable of the environment is wrong
                what = f"continue the run {self._known} of {self._id_file}" if self._known else "start a run"
                raise InputError(
                    f"--logger wandb cannot {what} ({one_line(error)[:300]}): run 'wandb login', set WANDB_MODE=offline "
                    "and upload the run later with 'wandb sync', or use another --logger"
                ) from error
            with write_aside(self._id_file) as aside:
                aside.write_text(f"{run.id}\n", encoding="utf-8")
        return super().experiment

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run, so that the next run of this process has one of its own."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


def _tensorboard(folder: Path, begun_at: int) -> Logger:
    """Make the logger. TensorBoard hides the earlier run's values after step ``begun_at``: they are logged again."""
    return TensorBoardLogger(folder, name="", version="", purge_step=begun_at + 1)


LOGGERS: dict[LoggerName, Callable[[Path, int], Logger]] = {
    "tensorboard": _tensorboard,
    "csv": ResumableCSVLogger,
    "wandb": lambda folder, _: ResumableWandbLogger(folder),
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
