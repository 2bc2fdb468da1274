"""Images in a file that is mapped into memory, and in a temporary one."""

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from gan_lightning.data import stored
from gan_lightning.data.stored import Mapped, Spool, select, sha256, whole
from gan_lightning.errors import InputError
from gan_lightning.files import fingerprint

IMAGES = torch.randint(256, (300, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def mapped(path: Path) -> Mapped:
    numpy.save(path, IMAGES.numpy())
    return Mapped(numpy.load(path, mmap_mode="r"))


def test_a_mapped_file_is_the_same_images(tmp_path: Path) -> None:
    images = mapped(tmp_path / "a.npy")
    (tmp_path / "a.npy").unlink()  # the map keeps the content
    assert (images.shape, len(images), images.nbytes) == (IMAGES.shape, 300, IMAGES.nbytes)
    for indices in (torch.tensor([7, 0, 7, 299]), torch.tensor([[1], [2]]), torch.arange(0)):
        assert torch.equal(images[indices], IMAGES[indices])
    assert torch.equal(whole(images), IMAGES)
    assert sha256(images) == sha256(IMAGES) == fingerprint(IMAGES)


def test_rows_of_a_mapped_file(tmp_path: Path) -> None:
    rows, few = torch.tensor([5, 3, 299, 3]), torch.tensor([2, 0])
    for images in (mapped(tmp_path / "a.npy"), IMAGES):
        chosen = select(images, rows)
        assert torch.equal(whole(chosen), IMAGES[rows])
        assert torch.equal(whole(select(chosen, few)), IMAGES[rows][few])
        assert len(images) == 300  # the other one stays as it was


@pytest.mark.parametrize("most", [0, 6000, 2**28])
def test_a_spool_keeps_images_in_memory_or_in_a_file(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file once they take too much memory, and no name of it is left."""
    monkeypatch.setattr(stored, "MOST_IN_MEMORY", most)
    monkeypatch.setenv("GAN_LIGHTNING_DATA", str(tmp_path / "data"))
    spool = Spool((3, 4, 5))
    for image in IMAGES:
        spool.add(image.numpy())
    images = spool.images
    assert isinstance(images, Mapped) == (most < IMAGES.nbytes)
    assert (tmp_path / "data").is_dir() == (most < IMAGES.nbytes)
    assert torch.equal(whole(images), IMAGES)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert Spool((3, 4, 5)).images.shape == (0, 3, 4, 5)


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stored, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    spool = Spool((3, 4, 5))
    spool.add(IMAGES[0].numpy())
    with pytest.raises(InputError, match="GAN_LIGHTNING_DATA") as caught:
        spool.add(IMAGES[1].numpy())
    assert "\n" not in str(caught.value)
