"""Survey of a folder of images."""

import shutil
from collections import Counter
from pathlib import Path

import numpy
import pytest
from PIL import Image

from gan_lightning.data import ImageFolder, Split
from gan_lightning.data.survey import count_copies, survey


def test_sizes_modes_formats_and_transparency(tmp_path: Path) -> None:
    made = {
        "a.jpg": ("RGB", (40, 20), "JPEG"),
        "b.png": ("L", (10, 10), "PNG"),
        "c.webp": ("RGBA", (100, 50), "WEBP"),
        "d.png": ("I;16", (8, 30), "PNG"),
        "e.jpg": ("P", (12, 12), "GIF"),  # with another ending
    }
    for name, (mode, (width, height), written) in made.items():
        Image.new(mode, (width, height)).save(tmp_path / name, written)
    (tmp_path / "f.png").write_bytes(b"no image")
    (tmp_path / "g.png").symlink_to(tmp_path / "nowhere.png")
    found = survey(sorted(tmp_path.iterdir()))
    assert found.sizes == [(10, 10), (12, 12), (8, 30), (40, 20), (100, 50)]
    assert found.formats == Counter(PNG=2, JPEG=1, WEBP=1, GIF=1)
    assert found.modes == Counter({"RGB": 1, "L": 1, "RGBA": 1, "I;16": 1, "P": 1})
    assert found.transparent == 1
    assert [found.smaller_than(pixels, pixels) for pixels in (8, 9, 11, 21, 51)] == [0, 1, 2, 4, 5]
    assert [found.smaller_than(*size) for size in ((10, 8), (11, 8), (10, 9), (31, 1), (1, 101))] == [0, 1, 1, 4, 5]
    assert found.cropped(9, 9) == pytest.approx((0 + 0 + 22 / 30 + 1 / 2 + 1 / 2) / 5)
    assert found.cropped(10, 20) == pytest.approx((1 / 2 + 1 / 2 + 26 / 30 + 0 + 0) / 5)


def test_copies_are_files_of_the_same_bytes(tmp_path: Path) -> None:
    for i in range(3):  # equally long, and different
        Image.fromarray(numpy.full((9, 9), 10 * i, numpy.uint8)).save(tmp_path / f"{i}.bmp")
    assert count_copies(sorted(tmp_path.iterdir())) == 0
    for name in ("x.bmp", "y.bmp"):
        shutil.copy(tmp_path / "0.bmp", tmp_path / name)
    for name in ("empty.bmp", "empty too.bmp"):
        (tmp_path / name).touch()
    assert count_copies(sorted(tmp_path.iterdir())) == 2


def test_an_empty_survey() -> None:
    found = survey([])
    assert (list(found.sizes), found.cropped(8, 4), count_copies([])) == ([], 0.0, 0)


def test_corrupt_files_of_both_splits(tmp_path: Path) -> None:
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        for i in range(3):
            path = tmp_path / split / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("L", (8, 8), i).save(path)
        (tmp_path / split / "cut.png").write_bytes((tmp_path / split / "0.png").read_bytes()[:40])
    data = ImageFolder(tmp_path, image_size=8, channels=1)
    for split in splits:
        assert list(data.corrupt(split)) == [tmp_path / split / "cut.png"]
    alone = ImageFolder(tmp_path / "train", image_size=8, channels=1)  # the few files may all be in one split
    assert sum(len(alone.corrupt(split)) for split in splits) == 1
