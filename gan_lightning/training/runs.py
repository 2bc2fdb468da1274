"""Folders of runs: ``version_0``, ``version_1`` and so on below one root."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only

from gan_lightning.errors import InputError


def earlier_runs(root: Path) -> list[Path]:
    """Folders ``version_N`` below ``root``, in the order of N."""
    found = [path for path in root.glob("version_*") if re.fullmatch(r"version_\d+", path.name) and path.is_dir()]
    return sorted(found, key=_number)


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("version_"))


@contextmanager
def run_folder(root: Path, resumed: Path | None = None) -> Iterator[Path]:
    """Yield the folder of a run: ``resumed``, or a new ``version_N`` below ``root`` with N one above the largest.

    Only the first process makes the folder; the others learn it from ``trainer.log_dir``. If bad input or a signal ends the
    block before a checkpoint exists, the new folder is removed again.

    Raises:
        InputError: the folder cannot be made, or its name is not Unicode.
    """
    if resumed is not None or rank_zero_only.rank:  # type: ignore[attr-defined]
        yield resumed or root
        return
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{root} is not UTF-8, or the locale is not, and TensorBoard refuses such names: use another --default_root_dir, "
            "or set LC_ALL=C.UTF-8"
        ) from error
    number = max((_number(path) + 1 for path in earlier_runs(root)), default=0)
    while True:
        folder = root / f"version_{number}"
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:  # another run was faster
            number += 1
        except OSError as error:
            raise InputError(f"{folder} cannot be created ({error.strerror}): use another --default_root_dir") from error
    try:
        yield folder
    except (InputError, KeyboardInterrupt, SystemExit):
        if not (folder / "checkpoints").exists():
            shutil.rmtree(folder, ignore_errors=True)  # Windows keeps files that are still open
        raise


def last_checkpoint(root: Path) -> Path:
    """Find ``last.ckpt`` of the newest run below ``root`` that has one. Skips runs that ended before they saved a checkpoint.

    Raises:
        InputError: no run has one.
    """
    earlier = earlier_runs(root)
    if not earlier:
        raise InputError(f"--ckpt_path last finds no run in {root}: remove the flag to start one")
    for run in reversed(earlier):
        if (path := run / "checkpoints" / "last.ckpt").is_file():
            return path
    raise InputError(f"--ckpt_path last finds no run with a checkpoint in {root}: remove the flag to start one")
