"""Real images that are read in batches: the same statistics as of images in memory."""

import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gan_lightning.data import Digits, ImageFolder, decoding, image_file
from gan_lightning.data import stored as storing
from gan_lightning.data.image_set import read_images
from gan_lightning.data.stored import Mapped
from gan_lightning.files import fingerprint
from gan_lightning.metrics.evaluator import choose, collect
from gan_lightning.metrics.features import ModuleExtractor
from gan_lightning.metrics.measurement import RealImages, choose_real
from gan_lightning.metrics.statistics import Statistics

FIELDS = ("mean", "covariance", "features", "class_counts")


class Means(nn.Module):
    """Features and logits of an image: means of its parts."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
        return features, features[:, :3]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("gan_lightning.data.decoding.FEW", 10)  # processes decode them
    for i in range(60):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numpy.random.default_rng(i).integers(0, 256, (8, 9, 3), dtype=numpy.uint8)).save(path)
    return tmp_path / "photos"


def assert_equal(one: Statistics | None, other: Statistics | None) -> None:
    assert one is not None
    assert other is not None
    for field in FIELDS:
        assert torch.equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("num_real", [None, 17])
@pytest.mark.parametrize(
    "where", [{}, {"max_bytes_on_device": 0}, {"max_bytes_on_device": 0, "pack": False}], ids=["device", "pack", "workers"]
)
def test_a_folder_is_measured_from_anywhere(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: dict[str, Any], num_real: int | None
) -> None:
    """Bitwise as from a tensor of all images, with the same hash, so that statistics of earlier versions are found."""
    images, labels = ImageFolder(photos, 8).images("train")
    assert labels is not None
    chosen = choose(len(images), num_real or len(images))
    expected = collect(lambda indices: images[chosen][indices], ModuleExtractor(Means()), len(chosen), 7, keep_features=True)
    monkeypatch.setenv("GAN_LIGHTNING_DATA", str(tmp_path / "other"))
    data = ImageFolder(photos, 8, num_workers=2, **where)
    monkeypatch.setattr(ImageFolder, "images", None)  # no split is read as a whole
    real = RealImages.of(data, "train", num_real)
    made, about = real.statistics(ModuleExtractor(Means()), ["features", "class_counts"], 7, progress=False)
    assert_equal(made, expected)
    assert about["real_sha256"] == fingerprint(images[chosen])
    assert (about["num_real"], about["real_subset"]) == (len(chosen), "random, seed 0" if num_real else "all")
    assert real.class_counts == torch.bincount(labels[chosen]).tolist()
    again, _ = real.statistics(ModuleExtractor(Means()), ["features", "class_counts"], 7, progress=False)
    assert_equal(again, made)  # from the cache


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "npy", "npz"])
@pytest.mark.parametrize("num_real", [None, 17])
def test_sets_in_a_temporary_file_are_measured_alike(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, num_real: int | None
) -> None:
    source = photos
    if kind in ("zip", "tar"):
        source = Path(shutil.make_archive(str(tmp_path / "archive"), kind, photos))
    elif kind != "folder":
        source = tmp_path / f"images.{kind}"
        pixels = numpy.random.default_rng(0).integers(0, 256, (60, 8, 9, 3), dtype=numpy.uint8)
        numpy.save(source, pixels) if kind == "npy" else numpy.savez(source, images=pixels)
    in_memory = read_images(source, (3, 8, 8))
    assert isinstance(in_memory, Tensor)
    chosen = choose(60, num_real or 60)
    expected = collect(lambda indices: in_memory[chosen][indices], ModuleExtractor(Means()), len(chosen), 7, True)
    monkeypatch.setattr(storing, "MOST_IN_MEMORY", 100)
    images = read_images(source, (3, 8, 8), choose=lambda size: choose_real(size, num_real))
    assert isinstance(images, Mapped)
    real = RealImages.of_stored(images, {"real": str(source)}, 60)
    made, about = real.statistics(ModuleExtractor(Means()), ["features", "class_counts"], 7, progress=False)
    assert_equal(made, expected)
    assert about["real_sha256"] == fingerprint(in_memory[chosen])


def test_only_the_chosen_images_are_decoded(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, decode = list[object](), image_file.decode

    def counting(*args: Any) -> Tensor:
        decoded.append(args[0])
        return decode(*args)

    monkeypatch.setattr(decoding, "decode", counting)
    monkeypatch.setattr(decoding, "FEW", 1000)
    assert len(read_images(photos, (3, 8, 8), choose=lambda size: choose_real(size, 5))) == 5
    assert len(decoded) == 5
    (photos / "a" / "broken.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="broken"):  # images that are skipped do not count, so all are decoded
        images = read_images(photos, (3, 8, 8), skipped=[], choose=lambda size: choose_real(size, 60))
    assert len(images) == 60


def test_images_at_some_indices() -> None:
    data = Digits()
    indices = torch.tensor([[3, 1], [0, 3]])
    assert torch.equal(RealImages.of(data, "test").at(indices), data.images("test")[0][indices])
