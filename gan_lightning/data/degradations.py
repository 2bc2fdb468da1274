"""Degradations: functions from an image to the source that it is to be restored from.

All of them map uint8 images to uint8 images, on any device, so training, measuring and files give the same sources. A random
one, such as a hole at a random place, receives its random numbers as an argument.
"""

import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gan_lightning.errors import InputError
from gan_lightning.images import luma, size_text, with_hole
from gan_lightning.training.randomness import derived_seed

Shape = tuple[int, int, int]
"""Channels, height, width."""


class Degradation(ABC):
    """A function from images to their sources. It keeps each of its arguments as an attribute of the same name.

    Attributes:
        num_draws: random numbers that the source of one image takes.
        has_mask: the last channel of a source is a mask: 255 where the image is missing.
    """

    num_draws: int = 0
    has_mask: bool = False

    def describe(self) -> dict[str, Any]:
        """Describe the degradation by its class path and arguments, primitives only, for checkpoints.

        Raises:
            InputError: an argument is not kept, or is not a number, a text or None.
        """
        cls = type(self)
        arguments = {name: getattr(self, name, self) for name in inspect.signature(cls).parameters}
        for name, value in arguments.items():
            if value is not None and type(value) not in (bool, int, float, str):
                raise InputError(
                    f"{cls.__name__} does not keep its argument {name} as a number or text, and checkpoints store it: set "
                    f"self.{name} to one"
                )
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "arguments": arguments}

    def fixed_draws(self, indices: Tensor) -> Tensor:
        """Random numbers (N, ``num_draws``) of the images of numbers int64 (N,): always the same for the same number."""
        draws = torch.empty(len(indices), self.num_draws)
        if self.num_draws:
            for row, index in zip(draws, indices.tolist(), strict=True):
                row.uniform_(generator=torch.Generator().manual_seed(derived_seed("degradation", index)))
        return draws

    @abstractmethod
    def source_shape(self, image_shape: Shape) -> Shape:
        """Shape (C', H', W') of the sources of images (C, H, W).

        Raises:
            InputError: such images cannot be degraded.
        """

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Make the sources of images.

        Args:
            images: uint8 (B, C, H, W).
            draws: random numbers in [0, 1), float (B, ``num_draws``), on the device of the images.

        Returns:
            uint8 (B, C', H', W').
        """


class Grey(Degradation):
    """Grey images from colour images, for colouring: (1, H, W) from (3, H, W), by ITU-R BT.601."""

    def source_shape(self, image_shape: Shape) -> Shape:
        if image_shape[0] != 3:
            raise InputError(
                f"data.degradation Grey needs images in colour, but these are {size_text(image_shape)}: use others, or "
                "--data.source.channels 3 for those of a folder"
            )
        return (1, *image_shape[1:])

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return luma(images)


class Downscale(Degradation):
    """Small images from large ones, for super-resolution: bicubic interpolation with antialiasing, as Pillow does it.

    Args:
        factor: ratio of the sides, at least 2.

    Raises:
        InputError: the factor is below 2.
    """

    def __init__(self, factor: int) -> None:
        if factor < 2:
            raise InputError(f"data.degradation.factor is {factor}: use at least 2")
        self.factor = factor

    def source_shape(self, image_shape: Shape) -> Shape:
        channels, height, width = image_shape
        if height % self.factor or width % self.factor:
            raise InputError(
                f"data.degradation.factor is {self.factor}, which does not divide the images of {height}x{width} pixels: use "
                "another factor, or another size of the images"
            )
        return channels, height // self.factor, width // self.factor

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        size = [side // self.factor for side in images.shape[2:]]
        small = functional.interpolate(images.float(), size, mode="bicubic", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8)


class Hole(Degradation):
    """Images with a grey rectangle, and a mask of it as one more channel, for inpainting: (C + 1, H, W) from (C, H, W).

    The mask tells the network which pixels to fill. Without it, a grey pixel of the image looks like a part of the hole.

    Args:
        place: top, left, height and width of the rectangle in pixels, such as ``7,7,14,14``; or ``random``, for sides from a
            quarter to a half of the image's, at any place.

    Raises:
        InputError: the place is neither.
    """

    has_mask = True

    def __init__(self, place: str = "random") -> None:
        self.place = place
        self.num_draws = 4 if place == "random" else 0
        numbers = place.strip("[]()").split(",")
        if place != "random" and not (len(numbers) == 4 and all(number.strip().isdecimal() for number in numbers)):
            raise InputError(
                f"data.degradation.place is {place}: use random, or four numbers Y,X,H,W in pixels (top, left, height, width)"
            )
        self._fixed = () if place == "random" else tuple(map(int, numbers))

    def source_shape(self, image_shape: Shape) -> Shape:
        channels, height, width = image_shape
        if self._fixed:
            top, left, tall, wide = self._fixed
            if not (tall and wide and top + tall <= height and left + wide <= width):
                raise InputError(
                    f"data.degradation.place is {self.place}, which is not a rectangle inside the images of {height}x{width} "
                    "pixels: use Y,X,H,W (top, left, height, width) inside them"
                )
        return channels + 1, height, width

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return with_hole(images, self._mask(images, draws))

    def _mask(self, images: Tensor, draws: Tensor) -> Tensor:
        """Draw the hole of each image, bool (B, 1, H, W)."""
        inside = []
        for axis, side in enumerate(images.shape[2:]):
            at = torch.arange(side, device=images.device)
            if self._fixed:
                first, size = self._fixed[axis], self._fixed[axis + 2]
                inside.append(((at >= first) & (at < first + size)).expand(len(images), side))
                continue
            least, most = max(1, side // 4), max(1, side // 2)
            sizes = least + (draws[:, axis + 2 : axis + 3] * (most - least + 1)).long()  # (B, 1)
            begin = (draws[:, axis : axis + 1] * (side - sizes + 1)).long()
            inside.append((at >= begin) & (at < begin + sizes))
        rows, columns = inside
        return rows[:, None, :, None] & columns[:, None, None, :]


class Edges(Degradation):
    """Line drawings, black on white, for images from drawings: (1, H, W) from grey or colour images.

    A pixel is black if the brightness changes there by more than ``threshold`` (Sobel and Feldman 1968), and by more than at
    both neighbours across the edge, so that lines are thin (Canny 1986).

    Args:
        threshold: smallest step of the brightness that is drawn, as a share of that from black to white, above 0 and below 1.

    Raises:
        InputError: the threshold is out of range.
    """

    def __init__(self, threshold: float = 0.1) -> None:
        if not 0 < threshold < 1:
            raise InputError(f"data.degradation.threshold is {threshold}: use a number above 0 and below 1")
        self.threshold = threshold

    def source_shape(self, image_shape: Shape) -> Shape:
        if image_shape[0] not in (1, 3):
            raise InputError(
                f"data.degradation Edges needs grey or colour images, but these are {size_text(image_shape)}: use "
                "--data.source.channels 1 or 3"
            )
        return (1, *image_shape[1:])

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        grey = (luma(images) if images.shape[1] == 3 else images).float()
        height, width = grey.shape[2:]
        padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")

        def shifted(picture: Tensor, down: int, right: int) -> Tensor:
            return picture[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

        def smooth(along: int, at: int) -> Tensor:  # 1, 2, 1 along one axis
            sides = ((-1, at), (0, at), (1, at)) if along == 0 else ((at, -1), (at, 0), (at, 1))
            first, middle, last = (shifted(padded, *side) for side in sides)
            return first + 2 * middle + last

        down, right = smooth(1, 1) - smooth(1, -1), smooth(0, 1) - smooth(0, -1)  # a step of 1 gives 4: whole numbers
        change = down.square() + right.square()  # below 2**24, and so exact in float32 on any device
        around = functional.pad(change, (1, 1, 1, 1))
        above, below, before, after = (shifted(around, *step) for step in ((-1, 0), (1, 0), (0, -1), (0, 1)))
        steep = down.abs() > right.abs()
        largest = torch.where(steep, (change > above) & (change >= below), (change > before) & (change >= after))
        is_line = largest & (change > (4 * 255 * self.threshold) ** 2)
        return torch.where(is_line, 0, 255).to(torch.uint8)


class TurnedNegative(Degradation):
    """Negatives, turned by 90 degrees to the left: (C, W, H) from (C, H, W). Nothing is lost, so the right answer is known."""

    def source_shape(self, image_shape: Shape) -> Shape:
        channels, height, width = image_shape
        return channels, width, height

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return (255 - images).rot90(1, (2, 3))
