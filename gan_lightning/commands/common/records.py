"""What measuring commands have in common: the device and the processes to work in, and the record they write."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import distributed

import gan_lightning
from gan_lightning.checkpoint import write_aside
from gan_lightning.errors import InputError


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, aside and renamed.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        with write_aside(path) as aside:
            aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written ({error.strerror})") from error


def versions() -> dict[str, str]:
    """Of what the values depend on."""
    packages = {name: version(name) for name in ("torch", "numpy", "torch-fidelity")}
    return {"gan_lightning": gan_lightning.__version__, "python": platform.python_version(), **packages}


@contextmanager
def process_group(device_name: str) -> Iterator[torch.device]:
    """The device to work on; under torchrun, with the processes joined for the length of the block.

    Raises:
        InputError: there is no such device.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    given_name = device_name
    if device_name == "auto":
        device_name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device_name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local_rank)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {given_name}: there is none that torch can use here; give cpu, or auto") from error
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
