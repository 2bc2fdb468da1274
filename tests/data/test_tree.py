"""Classes, splits and other files of a folder."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_lightning.data import ImageFolder
from gan_lightning.data.tree import find_splits, is_held_out, scan
from tests.helpers import refuses


def write(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path)


def splits(root: Path, folders: Sequence[str], count: int = 12) -> None:
    for folder in folders:
        for i in range(count):
            write(root / folder / "ab"[i % 2] / f"{i}.png", i)


@pytest.mark.parametrize(
    ("folders", "trained", "held_out"),
    [
        (("train", "val"), "train", "val"),
        (("train", "val", "test"), "train", "test"),
        (("Train", "Test"), "Train", "Test"),
        (("training", "validation"), "training", "validation"),
        (("TRAIN", "Valid"), "TRAIN", "Valid"),
        (("train", "dev"), "train", "dev"),
        (("val", "test"), "val", "test"),
        (("train",), "train", "train"),
        (("test",), "test", "test"),
    ],
)
def test_names_of_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folders: Sequence[str], trained: str, held_out: str
) -> None:
    splits(tmp_path, folders)
    with caplog.at_level(logging.INFO):
        found = find_splits(tmp_path)
    assert found.class_names == ("a", "b")
    assert found.splits["train"].folder == tmp_path / trained
    assert found.splits["test"].folder == tmp_path / held_out
    total = sum(len(files.paths) for files in found.splits.values())
    assert total == 12 * len({trained, held_out})
    said = caplog.text
    for name in folders:
        assert name in said


@pytest.mark.parametrize("others", [["car", "plane"], ["other"]])
def test_a_class_may_have_the_name_of_a_split(tmp_path: Path, others: list[str]) -> None:
    splits(tmp_path, ["train", *others])
    assert find_splits(tmp_path).class_names == tuple(sorted(["train", *others]))


def test_what_has_no_images_does_not_count(tmp_path: Path) -> None:
    """Neither a README nor a folder of annotations makes classes of the splits."""
    splits(tmp_path, ["train", "test"])
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "1.xml").write_text("<a/>")
    found = find_splits(tmp_path)
    assert found.class_names == ("a", "b")
    assert len(found.others) == 2


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    """It is not replaced by another one: nobody wants to train on test because train is empty."""
    splits(tmp_path, ["test"])
    (tmp_path / "train").mkdir()
    with refuses(tmp_path / "train"):
        find_splits(tmp_path)


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    splits(tmp_path, ["train", "Training"])
    with refuses("train", "Training"):
        find_splits(tmp_path)


def test_images_others_the_splits_are_no_split(tmp_path: Path) -> None:
    splits(tmp_path, ["train", "test"])
    write(tmp_path / "cover.png")
    with pytest.warns(UserWarning, match=r"cover\.png"):
        assert find_splits(tmp_path).class_names == ()


def test_a_split_without_labels_has_none_in_the_other(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / "train" / f"{i}.png", i)
        write(tmp_path / "test" / "a" / f"{i}.png", i)
    found = find_splits(tmp_path)
    assert (found.class_names, found.splits["train"].labels, found.splits["test"].labels) == ((), None, None)


def names(held_out: bool, folder: str, count: int) -> list[str]:
    chosen = [f"{i}.png" for i in range(1000) if is_held_out(f"{folder}/{i}.png") == held_out]
    return chosen[:count]


@pytest.mark.parametrize("size", [1, 3])
def test_every_class_is_trained_on(tmp_path: Path, size: int) -> None:
    """One whose images would all be held out keeps one, and is named; the others of it stay held out."""
    for name in names(False, "many", 20):
        write(tmp_path / "many" / name)
    for name in names(True, "small", size):
        write(tmp_path / "small" / name)
    with pytest.warns(UserWarning, match="small"):
        found = find_splits(tmp_path)
    labels = found.splits["train"].classes
    assert labels is not None
    assert labels.count(1) == 1
    assert len(found.splits["test"].paths) == size - 1
    data = ImageFolder(tmp_path, 8, 1, num_workers=0)
    assert torch.bincount(data.images("train")[1]).tolist() == [20, 1]  # type: ignore[arg-type]


def test_large_classes_are_held_out_as_before(tmp_path: Path) -> None:
    splits(tmp_path, ["x", "y"], 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_splits(tmp_path)
    assert all(is_held_out(path) for path in found.splits["test"].paths)
    assert not any(is_held_out(path) for path in found.splits["train"].paths)


def test_a_class_of_corrupt_files_is_refused(tmp_path: Path) -> None:
    """With skip_corrupt too: samples of it would be untrained."""
    for name in names(False, "many", 5):
        write(tmp_path / "many" / name)
    (tmp_path / "void").mkdir()
    (tmp_path / "void" / names(False, "void", 1)[0]).write_bytes(b"")
    data = ImageFolder(tmp_path, 8, 1, skip_corrupt=True, num_workers=0)
    with pytest.warns(UserWarning, match="void"), refuses("void"):
        data.prepare_data()


@pytest.mark.parametrize(
    "name", ["@eaDir", "__MACOSX", ".ipynb_checkpoints", "__pycache__", "$RECYCLE.BIN", "System Volume Information", "#recycle"]
)
def test_folders_of_systems_are_no_classes(tmp_path: Path, name: str) -> None:
    splits(tmp_path, ["cats", "dogs", f"dogs/{name}", name])
    found = find_splits(tmp_path)
    assert found.class_names == ("cats", "dogs")
    assert sum(len(files.paths) for files in found.splits.values()) == 24


def test_other_files_are_counted_and_named_by_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    splits(tmp_path, ["cats"])
    for name in ("a.txt", "b.TXT", "film.mp4", "LICENSE"):
        (tmp_path / "cats" / name).write_bytes(b"some text")
    with caplog.at_level(logging.INFO):
        ImageFolder(tmp_path)
    (line,) = (record.message for record in caplog.records if "leaving out" in record.message)
    for part in ("4 files", ".txt 2", ".mp4 1", "no suffix 1"):
        assert part in line


def test_a_folder_without_images_names_the_suffixes_there(tmp_path: Path) -> None:
    for name in ("a.cr2", "b.cr2", "c.psd", "d"):
        (tmp_path / name).write_bytes(b"II*\0 raw" if name.endswith("cr2") else b"other")
    for read in (find_splits, scan):
        with refuses(tmp_path, ".cr2 2", ".psd 1", "no suffix 1", ".avif", ".jfif"):
            read(tmp_path)


def test_an_unreadable_subfolder_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits(tmp_path, ["cats", "dogs"])
    locked = PermissionError(13, "Permission denied", str(tmp_path / "dogs"))
    import os

    walk = os.walk

    def with_error(root: Path, followlinks: bool, onerror: object) -> object:
        onerror(locked)  # type: ignore[operator]
        return walk(root)

    monkeypatch.setattr(os, "walk", with_error)
    with refuses(tmp_path / "dogs"):
        find_splits(tmp_path)


@pytest.mark.parametrize(("below", "expected"), [("train/cat", 1), ("cat", 1), (".", 0)])
def test_a_folder_that_is_one_level_too_high_is_reported(tmp_path: Path, below: str, expected: int) -> None:
    """Its only class would be the name of the data set."""
    for i in range(3):
        write(tmp_path / "dataset" / below / f"{i}.png", i)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert find_splits(tmp_path).class_names == ("dataset",)
    assert sum(str(tmp_path / "dataset") in str(warning.message) for warning in caught) == expected
