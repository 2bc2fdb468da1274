"""Images of a folder that are not square."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image, ImageOps

from gan_lightning.data import ImageFolder
from gan_lightning.data.crops import height_and_width
from gan_lightning.data.image_file import decode
from gan_lightning.data.loaders import CropLoader, DeviceLoader, WorkerLoader
from tests.helpers import Batches, fit, refuses, small_gan

SIZES = ((20, 20), (20, 60), (60, 20), (6, 4), (12, 8), (9, 200))
"""Height and width of files: a square, a wide and a tall one, a small one, one of the right shape, and a panorama."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """36 noisy images of two classes."""
    for i in range(36):
        path = tmp_path / "photos" / "ab"[i // 18] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = numpy.random.default_rng(i).integers(0, 256, (*SIZES[i % len(SIZES)], 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(path)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("size", "expected"), [(64, (64, 64)), ("64", (64, 64)), ("96x64", (96, 64)), ((96, 64), (96, 64)), ([1, 2], (1, 2))]
)
def test_sizes(size: Any, expected: tuple[int, int]) -> None:
    assert height_and_width(size, "size") == expected


@pytest.mark.parametrize(
    "size",
    ["64x", "x64", "0x64", "64x0", "axb", "-1x4", "4x-1", "1x2x3", "", "x", "6.5x4", "8 x 8", "٣x8", "1_0"]
    + [0, -4, True, (), (1, 2, 3), (0, 1), (2.5, 4)],
)
def test_other_sizes_are_refused(size: Any) -> None:
    with refuses(f"data.image_size is {size}"):
        height_and_width(size, "data.image_size")


@pytest.mark.parametrize(("height", "width"), [(12, 8), (8, 12), (30, 5), (5, 30), (16, 16)])
def test_a_crop_at_the_centre_is_that_of_pillow(photos: Path, height: int, width: int) -> None:
    """The image covers the crop: no pixel is invented, and nothing is stretched."""
    data = ImageFolder(photos, f"{height}x{width}")
    images, _ = data.images("train")
    assert data.image_shape == images.shape[1:] == (3, height, width)
    for path, image in zip(data.files["train"].paths, images, strict=True):
        with Image.open(photos / path) as file:
            expected = ImageOps.fit(file, (width, height), Image.Resampling.LANCZOS)
        assert numpy.array_equal(image.permute(1, 2, 0).numpy(), numpy.asarray(expected))


@pytest.mark.parametrize(("turned", "size"), [(False, "10x20"), (True, "20x10")])
def test_three_rectangles_in_a_row(tmp_path: Path, turned: bool, size: str) -> None:
    """Of white between black ones, along the side that is too long, the white one remains."""
    pixels = numpy.zeros((60, 40), numpy.uint8)
    pixels[20:40] = 255  # 20 rows of 40 columns
    Image.fromarray(pixels.T if turned else pixels).save(tmp_path / "image.png")
    image = decode(tmp_path / "image.png", (1, *height_and_width(size, "")))
    assert image.shape[1:] == ((20, 10) if turned else (10, 20))
    assert (image > 200).all()


@pytest.mark.parametrize("size", ["12x8", "8x12"])
def test_a_random_crop_is_a_part_of_the_covering_image(photos: Path, size: str) -> None:
    """One side fits, the other is cut anywhere. A file that is smaller than the crop is enlarged first."""
    data = ImageFolder(photos, size, crop="random", batch_size=4)
    height, width = data.image_shape[1:]
    places = set()
    for path, image in zip(data.files["train"].paths, data.images("train")[0], strict=True):
        whole = decode(photos / path, data.image_shape, crop="random")
        assert whole.shape[1] == height or whole.shape[2] == width
        windows = whole.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
        found = (windows == image).flatten(2).all(2).nonzero()
        assert len(found) == 1
        places.add(tuple(found[0].tolist()))
    assert {top > 0 for top, _ in places} == {left > 0 for _, left in places} == {True, False}


@pytest.mark.parametrize("crop", ["center", "random"])
def test_workers_and_device_give_the_same_batches(photos: Path, crop: Any) -> None:
    """With classes drawn equally, a subset and flips; also from the cache."""
    seen = []
    for limit, workers, loader in (
        (2**30, 0, DeviceLoader),
        (2**30, 0, DeviceLoader),
        (0, 0, WorkerLoader),
        (0, 2, WorkerLoader),
    ):
        arguments: dict[str, Any] = {"horizontal_flip": True, "balance": True, "subset": 20, "crop": crop, "batch_size": 4}
        data = ImageFolder(photos, (12, 8), max_bytes_on_device=limit, pack=False, num_workers=workers, **arguments)
        batches = Batches()
        trainer = fit(small_gan(image_shape=(3, 12, 8)), data, [batches], max_steps=7)
        assert isinstance(trainer.train_dataloader, CropLoader if limit and crop == "random" else loader)
        seen.append(torch.cat([images for images, _ in batches.seen]))
    assert seen[0].shape == (28, 3, 12, 8)
    assert all(torch.equal(seen[0], other) for other in seen[1:])


def test_each_size_has_its_own_cache(photos: Path) -> None:
    shapes: list[Any] = ["12x8", "8x12", (12, 8), 12, "12"]
    images = [ImageFolder(photos, size).images("train")[0] for size in shapes]
    again = [ImageFolder(photos, size).images("train")[0] for size in shapes]
    assert all(torch.equal(one, other) for one, other in zip(images, again, strict=True))
    assert [tuple(each.shape[2:]) for each in images] == [(12, 8), (8, 12), (12, 8), (12, 12), (12, 12)]
    assert len(list(Path("data", "image_folder_cache").glob("*.npy"))) == 3
