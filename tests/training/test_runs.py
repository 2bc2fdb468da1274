"""Folders of runs."""

from pathlib import Path

import pytest

from gan_lightning.errors import InputError
from gan_lightning.training.runs import earlier_runs, last_checkpoint, run_folder
from tests.helpers import refuses


def save_checkpoint(run: Path) -> Path:
    path = run / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_runs_are_sorted_by_number(tmp_path: Path) -> None:
    for name in ("version_10", "version_9", "version_x", "version_1a", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_3").touch()
    assert [run.name for run in earlier_runs(tmp_path)] == ["version_9", "version_10"]
    with run_folder(tmp_path) as folder:
        assert folder.name == "version_11"
    assert folder.is_dir()


def test_a_new_folder_is_removed_only_if_nothing_was_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError), run_folder(tmp_path) as folder:
        raise InputError("a flag")
    assert not folder.exists()
    with run_folder(tmp_path) as folder:
        save_checkpoint(folder)
    with pytest.raises(InputError), run_folder(tmp_path, resumed=folder):
        raise InputError("a flag")
    assert folder.exists()


def test_a_folder_with_a_checkpoint_stays(tmp_path: Path) -> None:
    def train_until_the_disk_is_full() -> None:
        with run_folder(tmp_path) as folder:
            save_checkpoint(folder)
            raise InputError("the disk is full")

    with pytest.raises(InputError):
        train_until_the_disk_is_full()
    assert last_checkpoint(tmp_path).parts[-3] == "version_0"


def test_a_bug_keeps_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_folder(tmp_path) as folder:
        raise ZeroDivisionError
    assert folder.is_dir()


def test_a_root_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refuses(tmp_path / "file", "--default_root_dir"), run_folder(tmp_path / "file"):
        pass


def test_the_last_checkpoint_is_that_of_the_newest_run_with_one(tmp_path: Path) -> None:
    with refuses("--ckpt_path last", tmp_path):
        last_checkpoint(tmp_path)
    for number in range(3):
        (tmp_path / f"version_{number}").mkdir()
    with refuses("--ckpt_path last", tmp_path):
        last_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "version_0")
    expected = save_checkpoint(tmp_path / "version_1")
    assert last_checkpoint(tmp_path) == expected
