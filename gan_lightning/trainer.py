"""Lightning's Trainer as this project sets it up: the folder of a run, its loggers, a strategy that fits two optimizers."""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy

from gan_lightning import checkpoint
from gan_lightning.errors import InputError, one_line

LoggerName = Literal["tensorboard", "csv", "wandb"]
# Lightning advertises a logger at each start
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.getMessage())

LOGGERS: dict[LoggerName, Callable[[Path], Logger]] = {
    "tensorboard": lambda folder: TensorBoardLogger(folder, name="", version=""),
    "csv": lambda folder: CSVLogger(folder, name="", version=""),
    "wandb": lambda folder: WandbLogger(name=folder.name, save_dir=folder, project="gan_lightning"),
}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are written aside and renamed, and verified when they are read (see ``checkpoint.py``).

    Hyper-parameters, which a data source of one's own may keep, stay out: a checkpoint that has them is refused.
    """

    def save_checkpoint(self, content: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        checkpoint.save({name: value for name, value in content.items() if name not in checkpoint.HYPER_PARAMETERS}, path)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return checkpoint.load_gan(path, map_location)


def make_trainer(folder: Path, logger: LoggerName | Sequence[LoggerName] | bool, **arguments: Any) -> Trainer:
    """A Trainer whose files all lie in ``folder``.

    Args:
        folder: of the run; loggers and callbacks find it as ``trainer.log_dir``.
        logger: names of loggers; true is TensorBoard, false none.
        arguments: further ones of Lightning's Trainer.

    Raises:
        InputError: Lightning refuses the arguments, such as an accelerator that is not there.
    """
    names: Sequence[LoggerName] = (
        ["tensorboard"] if logger is True else [] if logger is False else [logger] if isinstance(logger, str) else logger
    )
    if str(arguments.get("precision")) in ("16-true", "bf16-true"):
        raise InputError(
            f"--precision {arguments['precision']}: the optimizers need float32 weights; use 16-mixed or bf16-mixed"
        )
    try:
        if (max_time := arguments.pop("max_time", None)) is not None:
            # the first callback, so that the others know at a step's end whether it was the last
            arguments["callbacks"] = [Timer(max_time), *as_list(arguments.get("callbacks"))]
            if arguments.get("max_epochs") is None:
                arguments["max_epochs"] = -1  # the time alone ends the run
        trainer = Trainer(
            default_root_dir=folder,
            logger=[LOGGERS[name](folder) for name in names],
            plugins=[*as_list(arguments.pop("plugins", None)), AtomicCheckpointIO()],
            **arguments,
        )
    except (MisconfigurationException, ValueError, TypeError, ModuleNotFoundError) as error:
        reason = f"the Trainer refuses its settings: {one_line(error)}"
        accelerator = arguments.get("accelerator")
        if accelerator in ("gpu", "cuda", "mps") and re.search("No supported gpu backend|not available", reason):
            reason = f"--accelerator {accelerator}: this machine has no GPU that torch can use; use --accelerator cpu, or auto"
        raise InputError(reason) from error
    if isinstance(trainer.strategy, DDPStrategy):
        # Each of the two backward passes leaves the other network's parameters out, which plain DDP does not stand.
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    return trainer


def is_out_of_time(trainer: Trainer) -> bool:
    """Whether the run ends after this step because its ``max_time`` is over (and not by Ctrl-C)."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    # the clocks of several processes differ; that they stop, they have agreed upon
    return trainer.should_stop and any(trainer.world_size > 1 or (timer.time_remaining() or 0) <= 0 for timer in timers)


def as_list(given: Any) -> list[Any]:
    """None, one thing or several, as Trainer takes its callbacks and plugins, as a list."""
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]


def runs(root: Path) -> list[Path]:
    """The folders ``version_N`` of earlier runs below ``root``, in order of N."""
    found = [path for path in root.glob("version_*") if re.fullmatch(r"version_\d+", path.name) and path.is_dir()]
    return sorted(found, key=_number)


@contextmanager
def run_folder(root: Path, resumed: Path | None = None) -> Iterator[Path]:
    """The folder of a run: ``resumed``, or a new ``version_N`` below ``root``, N one more than the largest that is there.

    Only the first process makes it; the others are told of it by ``trainer.log_dir``. When the block raises an InputError
    before anything was trained, a new folder is removed again.
    """
    if resumed is not None or rank_zero_only.rank:  # type: ignore[attr-defined]
        yield resumed or root
        return
    number = max((_number(path) + 1 for path in runs(root)), default=0)
    while True:
        folder = root / f"version_{number}"
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:  # another run was faster
            number += 1
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); name another by --default_root_dir") from error
    try:
        yield folder
    except InputError:
        if not (folder / "checkpoints").exists():
            shutil.rmtree(folder)
        raise


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("version_"))


def last_checkpoint(root: Path) -> Path:
    """``last.ckpt`` of the newest run below ``root``.

    Raises:
        InputError: there is no run, or the newest one has saved nothing.
    """
    earlier = runs(root)
    if not earlier:
        raise InputError(f"--ckpt_path last: there is no run in {root}; leave the flag out to start one")
    path = earlier[-1] / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise InputError(f"--ckpt_path last: the newest run, {earlier[-1]}, has saved no checkpoint; name one by its path")
    return path
