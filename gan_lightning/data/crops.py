"""Sizes of crops, and crops at random places, of images that are whole along one side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from gan_lightning.data.stored import Stored, whole
from gan_lightning.errors import InputError

Crop = Literal["center", "random"]
LONGEST = 8  # sides of a crop; longer images keep so many of them, around the centre
DRAWS = 2**62  # random numbers for crops are below


def height_and_width(size: int | str | Sequence[int], flag: str) -> tuple[int, int]:
    """Read the size of images: 64 is a square, "96x64" and (96, 64) are 96 pixels high and 64 pixels wide.

    Args:
        size: the size.
        flag: the flag or argument that names it, for the message.

    Raises:
        InputError: it is no such size, or a side has no pixel.
    """
    sides = size.split("x") if isinstance(size, str) else [size] if isinstance(size, int) else [*size]
    numbers = [int(side) for side in map(str, sides) if re.fullmatch("[1-9][0-9]{0,8}", side)]
    if len(numbers) != len(sides) or len(sides) not in (1, 2):
        raise InputError(f"{flag} is {size}: use a number of pixels of at least 1 such as 64, or HEIGHTxWIDTH such as 96x64")
    return numbers[0], numbers[-1]


def uncropped_size(size: tuple[float, float], crop: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image that is resized until a crop just fits in it; at most :data:`LONGEST` crops."""
    scale = max(side / own for own, side in zip(size, crop, strict=True))
    height, width = (min(max(round(own * scale), side), LONGEST * side) for own, side in zip(size, crop, strict=True))
    return height, width


def corners(sizes: Tensor, draws: Tensor, crop: tuple[int, int]) -> Tensor:
    """Top and left of crops at random places, int64 (N, 2).

    Args:
        sizes: height and width of each image, int64 (N, 2).
        draws: a random number for each image, int64 (N,), from 0 to :data:`DRAWS` - 1.
        crop: height and width of the crops.
    """
    return draws[:, None] % (sizes - torch.tensor(crop) + 1)


def crop_one(image: Tensor, draw: int, crop: tuple[int, int]) -> Tensor:
    """Crop one image uint8 (C, H, W) at a random place."""
    ((top, left),) = corners(torch.tensor([image.shape[1:]]), torch.tensor([draw]), crop).tolist()
    return image[:, top : top + crop[0], left : left + crop[1]]


@dataclass(frozen=True)
class Uncropped:
    """Images of different sizes.

    Attributes:
        pixels: uint8 (P, C), all pixels of the first image, row by row, then those of the second, and so on.
        sizes: height and width of each image, int64 (N, 2).
    """

    pixels: Stored
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def nbytes(self) -> int:
        """Memory of all images, in bytes."""
        return self.pixels.nbytes

    @cached_property
    def _first(self) -> Tensor:
        """Position in ``pixels`` of each image's first pixel, int64 (N,)."""
        areas = self.sizes.prod(1)
        return areas.cumsum(0) - areas

    def to(self, device: torch.device) -> "Uncropped":
        """Move the pixels to a device. The sizes stay on the CPU."""
        return Uncropped(whole(self.pixels).to(device), self.sizes)

    def places(self, indices: Tensor, draws: Tensor, crop: tuple[int, int]) -> Tensor:
        """Position in ``pixels`` of each crop's first pixel, and the width of its image, int64 (N, 2), on the CPU."""
        first, sizes = self._first[indices], self.sizes[indices]
        top, left = corners(sizes, draws, crop).unbind(1)
        return torch.stack([first + top * sizes[:, 1] + left, sizes[:, 1]], dim=1)

    def crops(self, places: Tensor, crop: tuple[int, int]) -> Tensor:
        """Cut crops out, uint8 (N, C, H, W); ``places`` are on the device of the pixels."""
        rows, columns = (torch.arange(side, device=places.device) for side in crop)
        first, width = places[:, :, None, None].unbind(1)  # (N, 1, 1)
        return self.pixels[first + width * rows[:, None] + columns].permute(0, 3, 1, 2).contiguous()
