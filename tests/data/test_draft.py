"""Large JPEGs, which are decoded at a fraction of their size: as if they were decoded whole, to within a grey level."""

import io
from typing import Any

import numpy
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from torch import Tensor

from gan_lightning.data import image_file
from gan_lightning.data.crops import uncropped_size
from gan_lightning.data.image_file import DRAFT, decode

PHOTOS = [Image.fromarray(photo) for photo in load_sample_images().images]  # 640x427
ORIENTATION = 274


def jpeg(image: Image.Image, orientation: int = 1, **arguments: Any) -> io.BytesIO:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    image.save(stream, "JPEG", exif=exif, **{"quality": 90} | arguments)
    return stream


def whole(source: io.BytesIO, size: tuple[int, int]) -> Tensor:
    """Decode all pixels, and resize and crop them."""
    with Image.open(source) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    fitted = ImageOps.fit(upright, size[::-1], Image.Resampling.LANCZOS)
    return torch.from_numpy(numpy.array(fitted)).permute(2, 0, 1)


def difference(one: Tensor, other: Tensor) -> float:
    """Mean difference in grey levels."""
    return float((one.float() - other.float()).abs().mean())


@pytest.fixture
def drafts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Width of each JPEG as it is decoded."""
    seen: list[int] = []
    upright = image_file._upright

    def counting(opened: Image.Image) -> Image.Image:
        seen.append(opened.width)
        return upright(opened)

    monkeypatch.setattr(image_file, "_upright", counting)
    return seen


@pytest.mark.parametrize("arguments", [{}, {"quality": 75}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize(
    ("longest", "size", "width"),
    [
        (500, 32, 125),
        (500, 64, 250),
        (500, 128, 500),
        (640, 21, 80),
        (640, 42, 160),
        (640, 64, 320),
        (640, 85, 320),
        (640, 86, 640),
    ],
)
def test_the_mean_difference_is_below_a_grey_level(
    longest: int, size: int, width: int, arguments: dict[str, Any], drafts: list[int]
) -> None:
    """On each of two photographs, at each fraction, down to :data:`DRAFT` times the size."""
    for photo in PHOTOS:
        small = photo.copy()
        small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        source = jpeg(small, **arguments)
        assert difference(decode(source, (3, size, size)), whole(source, (size, size))) < 1
        assert drafts.pop() == width


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_are_not_shifted(orientation: int, drafts: list[int]) -> None:
    """The last row or column of a smaller JPEG is a part of a pixel, and may come first after turning."""
    photo = PHOTOS[0].crop((0, 0, 639, 423))  # neither is divisible by 4
    source = jpeg(photo, orientation)
    for shape in ((40, 32), (32, 40), (24, 60)):
        found = decode(source, (3, *shape))
        assert drafts[-1] in (160, 320)
        right = whole(source, shape)
        assert difference(found, right) < 1
        for shift in (1, -1):
            for axis in (1, 2):
                assert difference(found, right) < difference(found.roll(shift, axis), right) / 4


def test_random_crops_have_the_size_of_the_whole_image() -> None:
    """So that their places are the same."""
    for width, height in ((639, 423), (640, 427), (333, 427)):
        source = jpeg(PHOTOS[1].crop((0, 0, width, height)))
        found = decode(source, (3, 32, 32), crop="random")
        assert tuple(found.shape[1:]) == uncropped_size((height, width), (32, 32))
        assert difference(found, whole(source, (found.shape[1], found.shape[2]))) < 1


def test_only_large_jpegs_are_decoded_smaller(drafts: list[int]) -> None:
    stream = io.BytesIO()
    PHOTOS[0].save(stream, "PNG")
    decode(stream, (3, 32, 32))
    decode(jpeg(PHOTOS[0]), (3, int(427 / DRAFT / 2) + 1, 32))
    assert drafts == [640, 640]


def test_a_truncated_jpeg_stays_an_error() -> None:
    content = jpeg(PHOTOS[0]).getvalue()
    with pytest.raises(OSError, match="truncated"):
        decode(io.BytesIO(content[: len(content) // 2]), (3, 32, 32))


def test_grey_and_cmyk(drafts: list[int]) -> None:
    for mode in ("L", "CMYK"):
        source = jpeg(PHOTOS[0].convert(mode))
        assert difference(decode(source, (3, 64, 64)), whole(source, (64, 64))) < 1
        assert drafts.pop() == 320
