"""U-Net: the generator of pix2pix (Isola et al. 2017, section 3.2.1 and appendix 6.1.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks import layers
from gan_lightning.networks.base import Translator
from gan_lightning.networks.layers import ImageNorm, image_norm, initialise_normal

DEPTH = 8
"""Halvings of the paper: 256 pixels become one."""
DROPPED = 3
"""Maps of the decoder with dropout."""


class UNetGenerator(Translator):
    """Source -> halved down to one pixel -> doubled, each map together with the encoder's of its size -> image, tanh.

    Even sizes are halved by 4x4 kernels and odd ones by 3x3: 28 pixels become 14, 7, 4, 2 and 1. The encoder's first and last
    maps have no norm.

    The paper trains batch norm with one image a batch, and takes the moments of that image at test time, too. This equals
    instance norm, the default here.

    Args:
        image_shape: (C, H, W) of the images.
        source_shape: (C', H, W) of their sources.
        width: channels at half the size, doubled at each smaller one up to 8 times.
        depth: number of halvings; null halves until the shorter side has one pixel, but at most 8 times.
        dropout: probability of dropout in the decoder's first three maps.
        dropout_at_test: dropout in eval mode, too. It is the paper's only noise: each translation is then another one.
        norm: ``instance`` or ``batch``.

    Raises:
        InputError: a number is out of range, or images and sources differ in size.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        source_shape: tuple[int, int, int],
        width: int = 64,
        depth: int | None = None,
        dropout: float = 0.5,
        dropout_at_test: bool = False,
        norm: ImageNorm = "instance",
    ) -> None:
        super().__init__(image_shape, source_shape)
        self.require_same_size()
        if width < 1:
            raise InputError(f"width is {width}: use at least 1")
        sides = _sides(image_shape[1:], depth)
        self.multiple, self.least = 2 ** len(sides), 2 ** (len(sides) - 1)
        channels = [width * min(2**level, 8) for level in range(len(sides))]
        inputs = [source_shape[0], *channels[:-1]]
        outputs = [image_shape[0], *channels[:-1]]
        last = len(sides) - 1
        self.encoder = nn.ModuleList(
            _down(inputs[level], channels[level], side, norm if 0 < level < last else None, activated=level > 0)
            for level, side in enumerate(sides)
        )
        self.decoder = nn.ModuleList(
            _up(
                channels[level] * (1 if level == last else 2),
                outputs[level],
                sides[level],
                norm if level > 0 else None,
                layers.dropout(dropout if level > last - DROPPED else 0.0, dropout_at_test),
            )
            for level in reversed(range(len(sides)))
        )
        initialise_normal(self)

    def forward(self, source: Tensor) -> Tensor:
        maps = [source]
        for down in self.encoder:
            maps.append(down(maps[-1]))
        smallest, *decoder = self.decoder
        x = smallest(maps.pop())
        for up in decoder:
            x = up(torch.cat([x, maps.pop()], dim=1))
        images: Tensor = x  # (B, C, H, W)
        return images


def _down(inputs: int, outputs: int, side: Sequence[int], norm: ImageNorm | None, activated: bool) -> nn.Sequential:
    """Make the layers that halve a map with these sides."""
    convolution = nn.Conv2d(inputs, outputs, _kernel(side), stride=2, padding=1, bias=norm is None)
    return nn.Sequential(
        *([nn.LeakyReLU(0.2)] if activated else []), convolution, *([] if norm is None else [image_norm(outputs, norm)])
    )


def _up(inputs: int, outputs: int, side: Sequence[int], norm: ImageNorm | None, dropped: nn.Module) -> nn.Sequential:
    """Make the layers that undo the halving of a map with these sides. Those without a norm are the last."""
    convolution = nn.ConvTranspose2d(inputs, outputs, _kernel(side), stride=2, padding=1, bias=norm is None)
    return nn.Sequential(nn.ReLU(), convolution, *([nn.Tanh()] if norm is None else [image_norm(outputs, norm), dropped]))


def _kernel(side: Sequence[int]) -> tuple[int, int]:
    """Kernel whose halving of these sides can be undone: half of an odd number is rounded up."""
    height, width = (3 if pixels % 2 else 4 for pixels in side)
    return height, width


def _sides(size: Sequence[int], depth: int | None) -> list[list[int]]:
    """Sides of the maps that are halved, the largest first.

    Raises:
        InputError: the size cannot be halved so often.
    """
    sides = [list(size)]
    while min(sides[-1]) > 1:
        sides.append([(pixels + 1) // 2 for pixels in sides[-1]])
    *halved, _ = sides
    if not halved:
        raise InputError(
            f"images are {size[0]}x{size[1]}, but UNetGenerator needs sides of at least 2 pixels: use another size"
        )
    if depth is not None and not 1 <= depth <= len(halved):
        raise InputError(
            f"depth is {depth}, but images of {size[0]}x{size[1]} can be halved 1 to {len(halved)} times: use one of these"
        )
    return halved[: DEPTH if depth is None else depth]
