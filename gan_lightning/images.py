"""The two number formats of images, the only conversions between them, and the layout of a grid.

In memory, in a loader's batch, in metrics and on disk an image is uint8, 0 to 255. Inside the model it is float, nominally in
[-1, 1].
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from gan_lightning.errors import Diverged, InputError

MAX_COLUMNS = 20
"""Largest number of classes that get a column each."""
LUMA = (19595, 38470, 7471)  # 0.299, 0.587 and 0.114 of 2**16: ITU-R BT.601, with the rounding of Pillow
HOLE_GREY = 128  # the grey level next to 0 in [-1, 1]


def class_rows(rows: int, columns: int, num_classes: int) -> Tensor:
    """Labels int64 (rows * columns,) of a grid in which every row is one class, the classes in order.

    If there are more rows than classes, a class has several rows. If there are fewer, the rows show evenly spread classes.
    """
    return (torch.arange(rows) * num_classes // rows).repeat_interleave(columns)


def class_columns(num_classes: int) -> int | None:
    """Choose the columns of a grid of images that cycle through the classes: one per class; None for no or too many classes."""
    return num_classes if 1 < num_classes <= MAX_COLUMNS else None


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images (any shape) to float32 in [-1, 1]: 0 becomes -1, 255 becomes 1."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Map float images (any shape, nominally in [-1, 1]) to uint8, to the nearest grey level. Values outside are clamped.

    Raises:
        Diverged: some values are NaN: no grey level stands for NaN.
    """
    if bool(images.isnan().any()):
        raise Diverged(
            "the generated images have NaN, because the training has diverged: use an earlier checkpoint, or train again with "
            "a smaller learning rate"
        )
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def on_white(images: Tensor) -> Tensor:
    """Put transparent images uint8 (N, 4, H, W) on white: uint8 (N, 3, H, W). Others are returned as they are."""
    if images.shape[1] != 4:
        return images
    colour, alpha = images[:, :3].float(), images[:, 3:].float() / 255
    return (255 - alpha * (255 - colour)).round().to(torch.uint8)


def luma(images: Tensor) -> Tensor:
    """Convert colour to grey: uint8 (N, 1, H, W) from (N, 3, H, W), bitwise as Pillow does."""
    red, green, blue = (images[:, i : i + 1].int() * weight for i, weight in enumerate(LUMA))
    return ((red + green + blue + 2**15) >> 16).to(torch.uint8)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Convert images uint8 (N, C, H, W) to other channels: grey (1), colour (3), or colour and opacity (4).

    Transparent images are put on white, colour becomes grey by :func:`luma`, grey is repeated, and others become opaque.

    Raises:
        InputError: there is no such conversion.
    """
    if images.shape[1] == channels:
        return images
    if images.shape[1] not in (1, 3, 4) or channels not in (1, 3, 4):
        raise InputError(f"images have {images.shape[1]} channels instead of {channels}: use other images")
    opaque = on_white(images)
    if channels == 1:
        return luma(opaque)
    colour = opaque.expand(-1, 3, -1, -1)
    return colour if channels == 3 else torch.cat([colour, torch.full_like(colour[:, :1], 255)], dim=1)


def with_hole(images: Tensor, mask: Tensor) -> Tensor:
    """Make the sources of inpainting: uint8 (N, C + 1, H, W) from images uint8 (N, C, H, W) and holes bool (N, 1, H, W)."""
    return torch.cat([images.masked_fill(mask, HOLE_GREY), mask.to(torch.uint8) * 255], dim=1)


def size_text(shape: Iterable[int]) -> str:
    """Format a shape for messages: 3x32x32."""
    return "x".join(map(str, shape))
