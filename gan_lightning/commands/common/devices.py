"""The device of a measuring or drawing command, and the processes that torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from gan_lightning.errors import InputError


def find_device(accelerator: str) -> torch.device:
    """Find the device of ``--accelerator``: ``gpu`` is CUDA or MPS; ``auto`` is CUDA if there is one, else the CPU.

    Raises:
        InputError: this machine does not have it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    means = {"auto": "cuda" if available["cuda"] else "cpu", "gpu": "mps" if available["mps"] else "cuda"}
    name = means.get(accelerator, accelerator)
    if not available[name]:
        raise InputError(f"--accelerator {accelerator} is not available on this machine: use --accelerator cpu or auto")
    return torch.device(name, int(os.environ.get("LOCAL_RANK", 0))) if name == "cuda" else torch.device(name)


@contextmanager
def process_group(accelerator: str) -> Iterator[torch.device]:
    """Find the device; under torchrun, join the processes for the length of the block.

    Raises:
        InputError: the device does not exist.
    """
    device = find_device(accelerator)
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        yield device
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()
