"""The record of a measurement: a JSON file with values and versions."""

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gan_lightning
from gan_lightning.errors import InputError
from gan_lightning.files import write_aside


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with write_aside(path) as aside:
            aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path} cannot be written ({error.strerror}): use another path") from error


def versions() -> dict[str, str]:
    """List the versions of the packages that values depend on."""
    packages = {name: version(name) for name in ("torch", "numpy", "torch-fidelity")}
    return {"gan_lightning": gan_lightning.__version__, "python": platform.python_version(), **packages}


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Store the duration of the block as ``seconds[part]``."""
    begun = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - begun
