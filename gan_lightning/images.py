"""The two number formats of images, the only conversions between them, and the layout of a grid.

In memory, in a loader's batch, in metrics and on disk an image is uint8, 0 to 255. Inside the model it is float, nominally in
[-1, 1].
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from gan_lightning.errors import Diverged

MAX_COLUMNS = 20
"""Largest number of classes that get a column each."""


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


def size_text(shape: Iterable[int]) -> str:
    """Format a shape for messages: 3x32x32."""
    return "x".join(map(str, shape))
