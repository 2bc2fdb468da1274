"""Lightning's Trainer with this project's loggers, strategy and checkpoints."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, callbacks
from lightning.pytorch.strategies import DDPStrategy

from gan_lightning.errors import InputError, one_line
from gan_lightning.training import distributed
from gan_lightning.training.allocator import keep_freed_memory
from gan_lightning.training.checkpoint_io import AtomicCheckpointIO
from gan_lightning.training.compatibility import require_supported_callbacks, require_supported_strategy
from gan_lightning.training.loggers import LoggerName, make_loggers
from gan_lightning.training.strategy import GANStrategy


def make_trainer(
    folder: Path, logger: LoggerName | Sequence[LoggerName] | bool, begun_at: int = 0, **arguments: Any
) -> Trainer:
    """Make a Trainer that writes all its files to ``folder``.

    Args:
        folder: folder of the run; loggers and callbacks find it as ``trainer.log_dir``.
        logger: names of loggers; True is TensorBoard, False none.
        begun_at: training steps completed when the run was resumed.
        arguments: further arguments of Lightning's Trainer.

    Raises:
        InputError: Lightning refuses the arguments, for example a missing accelerator, or a callback or the strategy does not
            work with two optimizers.
    """
    if str(arguments.get("precision")) in ("16-true", "bf16-true", "64-true", "64"):
        raise InputError(
            f"--precision {arguments['precision']} is not supported, because weights and images are float32: use 16-mixed or "
            "bf16-mixed, or leave it out"
        )
    if overfit := arguments.get("overfit_batches"):
        raise InputError(
            f"--overfit_batches {overfit}: Lightning cannot repeat the same batches of this project's loaders: use a folder of "
            "few images as --data.root"
        )
    require_supported_callbacks(as_list(arguments.get("callbacks")))
    require_supported_strategy(arguments.get("strategy", "auto"))
    try:
        if (max_time := arguments.pop("max_time", None)) is not None:
            # the first callback, so that the others know at the end of a step if it was the last
            arguments["callbacks"] = [TimeLimit(max_time), *as_list(arguments.get("callbacks"))]
            if arguments.get("max_epochs") is None:
                arguments["max_epochs"] = -1  # the time alone ends the run
        trainer = Trainer(
            default_root_dir=folder,
            logger=make_loggers(logger, folder, begun_at),
            plugins=[*as_list(arguments.pop("plugins", None)), AtomicCheckpointIO(), *_cluster()],
            **arguments,
        )
    except (MisconfigurationException, ValueError, TypeError, ModuleNotFoundError) as error:
        reason = f"Lightning does not accept the settings of the Trainer: {one_line(error)}"
        accelerator = arguments.get("accelerator")
        if accelerator in ("gpu", "cuda", "mps") and re.search("No supported gpu backend|not available", reason):
            reason = f"--accelerator {accelerator} is not available on this machine: use --accelerator cpu or auto"
        raise InputError(reason) from error
    require_supported_strategy(trainer.strategy)  # in a notebook, 'auto' is ddp_fork
    if type(trainer.strategy) is DDPStrategy:
        trainer.strategy.__class__ = GANStrategy  # Lightning decides if there are several processes; 'auto' is its own
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
        # Lightning makes torch ask NVIDIA's library for GPUs. Adam asks at each step: 0.5 ms each without a GPU.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    return trainer


class TimeLimit(callbacks.Timer):
    """Lightning's timer, for ``max_time``. At each step, its processes send an object through the devices and wait for it.

    Here they ask each other in host memory, and only use Lightning's message once a process is out of time.
    """

    @property
    def state_key(self) -> str:
        """The name in checkpoints, also in earlier ones."""
        return "Timer"

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        remaining = self.time_remaining()
        if distributed.largest(int(remaining is not None and remaining <= 0)):
            super().on_train_batch_end(trainer, *args, **kwargs)


def _cluster() -> list[SLURMEnvironment]:
    """SLURM's settings without Lightning's requeueing. It does not know this project's folders and ``--ckpt_path``."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def total_steps(trainer: Trainer) -> int | None:
    """Generator updates that the run will have made at its end; None if only a time limits it."""
    limits = []
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and math.isfinite(trainer.num_training_batches):
        limits.append(trainer.max_epochs * int(trainer.num_training_batches))
    return min(limits, default=None)


def is_out_of_time(trainer: Trainer) -> bool:
    """Tell if the run ends after this step because its ``max_time`` is over, and not by Ctrl-C."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, callbacks.Timer)]  # type: ignore[attr-defined]
    # the processes' clocks differ, but the processes have agreed to stop
    return trainer.should_stop and any(trainer.world_size > 1 or (timer.time_remaining() or 0) <= 0 for timer in timers)


def as_list(given: Any) -> list[Any]:
    """Turn None, one object or several into a list, as Trainer takes its callbacks and plugins."""
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
