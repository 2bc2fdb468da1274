"""Lightning's Trainer as this project sets it up: the folder of a run, its loggers, a strategy that fits two optimizers."""

import csv
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from gan_lightning import checkpoint
from gan_lightning.errors import InputError, one_line
from gan_lightning.memory import keep_freed_memory
from gan_lightning.processes import Watch, average, end_process, make_alike
from gan_lightning.regularizers import GradientPenalty

LoggerName = Literal["tensorboard", "csv", "wandb"]
# Lightning advertises a logger at each start
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.getMessage())


class ContinuedCSVLogger(CSVLogger):
    """A ``metrics.csv`` that a resumed run goes on with: the rows up to its first step stay, those of later ones are made anew.

    Lightning's deletes the file of an earlier run; it is kept here, as ``metrics_1.csv`` and so on.

    Args:
        folder: of the run.
        begun_at: how many steps had been made when the run was resumed.
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


LOGGERS: dict[LoggerName, Callable[[Path, int], Logger]] = {
    # what was logged after the step that a run is resumed from is logged again: TensorBoard forgets the first time
    "tensorboard": lambda folder, begun_at: TensorBoardLogger(
        folder, name="", version="", purge_step=begun_at + 1 if begun_at else None
    ),
    "csv": ContinuedCSVLogger,
    "wandb": lambda folder, _: WandbLogger(name=folder.name, save_dir=folder, project="gan_lightning"),
}


def keep_copy(path: Path) -> None:
    """Copy ``config.yaml`` to ``config_1.yaml``, or ``config_2.yaml`` where that is taken, and so on, before it is replaced."""
    number = 1
    while (kept := path.with_stem(f"{path.stem}_{number}")).exists():
        number += 1
    with checkpoint.write_aside(kept) as aside:
        shutil.copyfile(path, aside)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are written aside and renamed, and verified when they are read (see ``checkpoint.py``).

    Hyper-parameters, which a data source of one's own may keep, stay out: a checkpoint that has them is refused.
    """

    def save_checkpoint(self, content: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: it cannot be written, because the disk is full, say; an earlier one under this name stays as it is.
        """
        kept = {name: value for name, value in content.items() if name not in checkpoint.HYPER_PARAMETERS}
        try:
            checkpoint.save(kept, path)
        except OSError as error:
            tensors = [leaf for leaf in tree_leaves(content) if isinstance(leaf, Tensor)]
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            raise InputError(f"{cannot_write(path, error)}; the checkpoint takes {size / 1e6:,.1f} MB") from error

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return checkpoint.load_gan(path, map_location or "cpu")  # whatever device it was saved from


def cannot_write(path: str | os.PathLike[str], error: OSError) -> str:
    """What to say of a file that the system refuses to write: its name, why, and how much space there is."""
    folder = next(parent for parent in Path(path).absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    reason = f"cannot be written ({error.strerror or one_line(error)}, {free / 1e6:,.1f} MB are free there)"
    return f"{path}: {reason}; the last checkpoint is whole: mend this and resume from it by --ckpt_path"


class GANStrategy(DDPStrategy):
    """Several processes for a model with two optimizers: each gradient is averaged once, right before it is used.

    Lightning's own strategy wraps the model and averages gradients within ``backward``, of which a GAN has two that each
    leave the other network out. Here the model stays as it is, and one message before each optimizer's step carries all of
    its gradients.

    Batch norm takes its moments over all processes on CUDA, but in a discriminator with a gradient penalty, because torch's
    synchronized batch norm has no second derivative. On the CPU, for which there is none at all, they are those of each
    process's own images, and a line says so.

    Attributes:
        lost: after a failure, the process that has died and so caused it, in words; else None.
    """

    lost: str | None = None
    _watch: Watch | None = None

    def setup_environment(self) -> None:
        super().setup_environment()
        if isinstance(self._launcher, _SubprocessScriptLauncher):
            # Lightning's observer kills this process as soon as a child has died, before it could say so and why: it is
            # given an empty list to observe
            self._launcher.procs, observed = list(self._launcher.procs), self._launcher.procs
            observed.clear()
        if self.world_size > 1:
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            self._watch = Watch(
                address, port, self.global_rank, self.world_size, end=lambda message: end_process(f"error: {message}")
            )
            self._watch.start()

    def setup(self, trainer: Trainer) -> None:
        model = self.lightning_module
        assert isinstance(model, nn.Module)
        if self.world_size > 1:
            self._synchronize_batch_norm(model)
        super().setup(trainer)

    def _synchronize_batch_norm(self, model: nn.Module) -> None:
        for name in ("generator", "discriminator"):
            network = getattr(model, name)
            if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
                continue
            penalties: Iterable[nn.Module] = getattr(model, "penalties", ())
            twice = name == "discriminator" and any(isinstance(penalty, GradientPenalty) for penalty in penalties)
            if self.root_device.type == "cuda" and not twice:
                setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(network))  # type: ignore[no-untyped-call]
            elif self.is_global_zero:
                print(f"Batch norm in the {name} takes its moments from the images of each process by itself", flush=True)

    def configure_ddp(self) -> None:
        """Instead of a wrapper: all processes begin with the weights of the first."""
        assert isinstance(self.model, nn.Module)
        make_alike([*self.model.parameters(), *self.model.buffers()])

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        average([parameter.grad for parameter in parameters if parameter.grad is not None])
        return super().optimizer_step(optimizer, closure, model, **kwargs)

    def on_exception(self, exception: BaseException) -> None:
        if self._watch is not None and isinstance(exception, RuntimeError):
            self.lost = self._watch.whose_fault()

    def teardown(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        super().teardown()


def make_trainer(
    folder: Path, logger: LoggerName | Sequence[LoggerName] | bool, begun_at: int = 0, **arguments: Any
) -> Trainer:
    """A Trainer whose files all lie in ``folder``.

    Args:
        folder: of the run; loggers and callbacks find it as ``trainer.log_dir``.
        logger: names of loggers; true is TensorBoard, false none.
        begun_at: how many steps the run has behind it, where it is resumed.
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
            logger=[LOGGERS[name](folder, begun_at) for name in names],
            plugins=[*as_list(arguments.pop("plugins", None)), AtomicCheckpointIO(), *_cluster()],
            **arguments,
        )
    except (MisconfigurationException, ValueError, TypeError, ModuleNotFoundError) as error:
        reason = f"the Trainer refuses its settings: {one_line(error)}"
        accelerator = arguments.get("accelerator")
        if accelerator in ("gpu", "cuda", "mps") and re.search("No supported gpu backend|not available", reason):
            reason = f"--accelerator {accelerator}: this machine has no GPU that torch can use; use --accelerator cpu, or auto"
        raise InputError(reason) from error
    if type(trainer.strategy) is DDPStrategy:
        trainer.strategy.__class__ = GANStrategy  # Lightning knows whether there are several processes; 'auto' is its own
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
        # for Lightning has torch ask NVIDIA's library for GPUs, which Adam does at each step: 0.5 ms each where there is none
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    return trainer


def _cluster() -> list[SLURMEnvironment]:
    """SLURM's settings, without Lightning's requeueing, which knows neither this project's folders nor ``--ckpt_path``."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def total_steps(trainer: Trainer) -> int | None:
    """How many generator updates the run will have made at its end; None where nothing limits it but a time."""
    limits = []
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and math.isfinite(trainer.num_training_batches):
        limits.append(trainer.max_epochs * int(trainer.num_training_batches))
    return min(limits, default=None)


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

    Only the first process makes it; the others are told of it by ``trainer.log_dir``. When the block is ended by bad input or
    a signal before anything was trained, a new folder is removed again.
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
    except (InputError, KeyboardInterrupt, SystemExit):
        if not (folder / "checkpoints").exists():
            shutil.rmtree(folder)
        raise


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("version_"))


def last_checkpoint(root: Path) -> Path:
    """``last.ckpt`` of the newest run below ``root`` that has one: a run that ended before it trained has nothing to resume.

    Raises:
        InputError: there is no such run.
    """
    earlier = runs(root)
    if not earlier:
        raise InputError(f"--ckpt_path last: there is no run in {root}; leave the flag out to start one")
    for run in reversed(earlier):
        if (path := run / "checkpoints" / "last.ckpt").is_file():
            return path
    raise InputError(f"--ckpt_path last: no run in {root} has saved a checkpoint; leave the flag out to start one")
