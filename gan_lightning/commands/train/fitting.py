"""Lightning's ``fit``, with errors that a user can fix as one line."""

import os
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer

from gan_lightning.data import ImageDataModule
from gan_lightning.data.loaders import naming_lost_workers
from gan_lightning.errors import USER_ERRNOS, InputError, ProcessLost, one_line
from gan_lightning.module import AdversarialModule
from gan_lightning.training.checkpoint_io import cannot_write


def fit(trainer: Trainer, model: AdversarialModule, data: ImageDataModule, resume_from: Path | None = None) -> None:
    """Train, without those warnings of Lightning that do not apply.

    Raises:
        InputError: Lightning or one of its callbacks refuses a setting, the memory or the disk is too small, torch.compile
            fails, a batch norm gets a single value, or a process that decodes images has died.
        ProcessLost: one of several processes has died.
    """
    warnings.filterwarnings("ignore", "The number of training batches")  # the log continues across epochs
    warnings.filterwarnings("ignore", "Experiment logs directory")  # our CSV logger continues its file
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning uses deprecated names of torch
    warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization")  # it does save whole steps
    warnings.filterwarnings("ignore", "Found .* module.* in eval mode")  # the average is always in eval mode
    before = threading.excepthook
    threading.excepthook = _report_thread_error
    try:
        with _errors_of_callbacks(trainer), naming_lost_workers():
            trainer.fit(model, datamodule=data, ckpt_path=resume_from)
    except MisconfigurationException as error:
        raise InputError(one_line(error)) from error
    except RuntimeError as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            reason = one_line(error).partition(" Set TORCHDYNAMO_VERBOSE")[0]
            raise InputError(f"--model.compile true fails on this machine ({reason[:200]}): remove it") from error
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise InputError(_out_of_memory(trainer, data)) from error
        lost: str | None = getattr(trainer.strategy, "lost", None)
        if lost is None:
            raise
        raise ProcessLost(lost) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        size = getattr(model, "micro_batch", None)
        cause, remedy = f"--data.batch_size {data.batch_size} gives", "at least 2"
        if size:
            cause, remedy = f"a part of --model.micro_batch {size} has one image and gives", "a size that leaves no part of one"
        raise InputError(
            f"{cause} batch norm a single value to normalise: use {remedy}, or networks without batch norm"
        ) from error
    except OSError as error:
        if error.errno not in USER_ERRNOS:
            raise
        raise InputError(cannot_write(os.fsdecode(error.filename or trainer.default_root_dir), error)) from error
    finally:
        threading.excepthook = before


@contextmanager
def _errors_of_callbacks(trainer: Trainer) -> Iterator[None]:
    """Turn errors that Lightning's own callbacks raise, such as a missing metric to monitor, into one line.

    Raises:
        InputError: such an error; other errors stay as they are.
    """
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        owners = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        names = [type(owner).__name__ for owner in owners if isinstance(owner, Callback) and _is_lightnings(owner)]
        if not names or getattr(trainer.strategy, "lost", None) is not None:
            raise
        raise InputError(f"--trainer.callbacks {names[-1]} cannot be used: {one_line(error)}") from error


def _is_lightnings(callback: Callback) -> bool:
    return type(callback).__module__.startswith("lightning.")


def _out_of_memory(trainer: Trainer, data: ImageDataModule) -> str:
    half = max(1, (getattr(trainer.lightning_module, "micro_batch", None) or data.batch_size) // 2)
    advice = f"try --model.micro_batch {half}, a smaller --data.batch_size, --precision bf16-mixed or narrower networks"
    return f"step {trainer.global_step + 1:,} needs more memory than {trainer.strategy.root_device} has: {advice}"


def _report_thread_error(failed: threading.ExceptHookArgs) -> None:
    """Report errors of threads as usual, except a failed write of TensorBoard: the main thread raises it again."""
    if not issubclass(failed.exc_type, OSError):
        threading.__excepthook__(failed)
