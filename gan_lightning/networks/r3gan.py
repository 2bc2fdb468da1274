"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!"): ResNeXt-like blocks without any norm, FIR resampling."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.convolution import GroupedConv2d
from gan_lightning.networks.layers import HEADS, DiscriminatorConditioning, LabelEmbedding, halvings

WIDEST, FULL_WIDTH = 768, 32
"""Default channels up to 32 pixels. Each larger scale has half of those before it, as in the authors' networks for faces."""

GAIN = (2 / (1 + 0.2**2)) ** 0.5
"""Gain that keeps the variance through LeakyReLU 0.2 (He et al. 2015)."""


def _scales(
    image_shape: tuple[int, int, int], widths: Sequence[int] | None, blocks: int | Sequence[int], group_width: int
) -> tuple[tuple[int, int], list[int], list[int]]:
    """Return the sides of the smallest feature map, and the channels and the number of blocks at each scale from there."""
    doublings = halvings(image_shape, "R3GAN", 16)
    scales, base = doublings + 1, (image_shape[1] // 2**doublings, image_shape[2] // 2**doublings)
    chosen = _tapered(scales) if widths is None else list(widths)
    if len(chosen) != scales or min(chosen) < 1:
        raise InputError(f"widths is {chosen}: for these images use {scales} widths of at least 1, the smallest scale first")
    depths = [blocks] * scales if isinstance(blocks, int) else list(blocks)
    if len(depths) != scales or min(depths) < 1:
        raise InputError(f"blocks is {blocks}: for these images use one number or {scales} numbers of at least 1")
    if group_width < 1 or any(2 * width % group_width for width in chosen):
        raise InputError(f"group_width is {group_width}: use a number that divides 2 x each of the widths {chosen}")
    return base, chosen, depths


def _tapered(scales: int) -> list[int]:
    """Default channels at each scale, from the smallest map."""
    return [WIDEST * FULL_WIDTH // max(FULL_WIDTH, 4 * 2**scale) for scale in range(scales)]


class Block(nn.Module):
    """x + a branch: 1x1 to twice the channels, LeakyReLU, grouped 3x3, LeakyReLU, 1x1 back. The last 1x1 starts at zero.

    Args:
        channels: input and output channels.
        group_width: channels of each group of the 3x3 convolution.
        depth: number of blocks of the whole network. The scale of the first two convolutions depends on it (Zhang et al. 2019,
            Fixup).
    """

    def __init__(self, channels: int, group_width: int, depth: int) -> None:
        super().__init__()
        inner = 2 * channels
        gain = GAIN * depth**-0.25
        last = nn.Conv2d(inner, channels, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            _initialise(nn.Conv2d(channels, inner, 1), gain),
            nn.LeakyReLU(0.2, inplace=True),
            _initialise(GroupedConv2d(inner, inner, 3, padding=1, groups=inner // group_width), gain),
            nn.LeakyReLU(0.2, inplace=True),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        result: Tensor = x + self.layers(x)
        return result


class Resample(nn.Module):
    """Doubles or halves height and width by the filter [1, 3, 3, 1]. If the channels change, a 1x1 convolution changes them.

    The 1x1 convolution comes before doubling and after halving. The filter is applied as a matrix along each side: this is
    faster than a convolution of single channels, forward and in both derivatives.

    Args:
        inputs: input channels.
        outputs: output channels.
        sides: height and width of the input.
        up: True to double, False to halve.
    """

    down: Tensor
    across: Tensor

    def __init__(self, inputs: int, outputs: int, sides: Sequence[int], up: bool) -> None:
        super().__init__()
        self.up = up
        for name, side in zip(("down", "across"), sides, strict=True):
            halving = filter_matrix(side * 2 if up else side)
            self.register_buffer(name, 2 * halving.T.contiguous() if up else halving, persistent=False)
        self.change = None if inputs == outputs else _initialise(nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2 H, 2 W) or (B, outputs, H / 2, W / 2)."""
        if self.up:
            return self._filter(x if self.change is None else self.change(x))
        x = self._filter(x)
        return x if self.change is None else self.change(x)

    def _filter(self, x: Tensor) -> Tensor:
        across = linear(x, self.across)  # (B, C, H, W')
        return linear(across.transpose(2, 3), self.down).transpose(2, 3)  # (B, C, H', W')


def filter_matrix(size: int) -> Tensor:
    """Matrix (size / 2, size) that halves a signal by the filter [1, 3, 3, 1] / 8, with zeros beyond its ends.

    Twice its transpose doubles a signal.
    """
    matrix = torch.zeros(size // 2, size)
    for row in range(size // 2):
        for column, tap in zip(range(2 * row - 1, 2 * row + 3), (1, 3, 3, 1), strict=True):
            if 0 <= column < size:
                matrix[row, column] = tap / 8
    return matrix


class R3GANGenerator(Generator):
    """Latent -> a learned 4x4 (7x7 for 28 pixels) basis, scaled by it -> blocks at each scale -> 1x1 -> image, no tanh.

    The paper's network for 32 pixels has 768 channels and two blocks at each of the four scales, 21 million parameters.

    Args:
        image_shape: (C, H, W), sides of at least 16 pixels that can be halved until the shorter one has 4 to 7.
        num_classes: number of classes of the data.
        latent_dim: dimension of the latent.
        widths: channels at each scale, the smallest scale first; None is 768 up to 32 pixels, and half of it
            at each larger scale: 384 at 64, 96 at 256.
        blocks: number of blocks at each scale, one number for all or one per scale.
        group_width: channels of each group of the 3x3 convolutions.
        conditioning: ``concatenation`` of an embedding of the label to z. There is no norm that could be conditional.
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: the image size is not supported, or widths, blocks or groups do not fit it.
    """

    conditionings = ("concatenation",)

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 64,
        widths: Sequence[int] | None = None,
        blocks: int | Sequence[int] = 2,
        group_width: int = 16,
        conditioning: Literal["concatenation"] | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, latent_dim, conditioning, condition_dim)
        base, channels, depths = _scales(image_shape, widths, blocks, group_width)
        self.label_embedding = LabelEmbedding(num_classes, condition_dim=condition_dim) if conditioning else None
        inputs = latent_dim + (self.label_embedding.dim if self.label_embedding else 0)
        self.basis = nn.Parameter(torch.randn(channels[0], *base))
        self.scale = _initialise(nn.Linear(inputs, channels[0], bias=False))
        layers: list[nn.Module] = []
        for i, width in enumerate(channels):
            if i > 0:
                layers.append(Resample(channels[i - 1], width, [side * 2 ** (i - 1) for side in base], up=True))
            layers += [Block(width, group_width, sum(depths)) for _ in range(depths[i])]
        self.layers = nn.Sequential(*layers, _initialise(nn.Conv2d(channels[-1], image_shape[0], 1, bias=False)))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.label_embedding is not None:
            z = self.label_embedding(z, labels)
        images: Tensor = self.layers(self.basis * self.scale(z)[:, :, None, None])  # (B, C, H, W)
        return images


class R3GANDiscriminator(Discriminator):
    """Image -> 1x1 -> blocks at each scale -> a depthwise convolution of the whole 4x4 (7x7) map -> logit. It mirrors G.

    Args:
        image_shape: (C, H, W), sides of at least 16 pixels that can be halved until the shorter one has 4 to 7.
        num_classes: number of classes of the data.
        widths: channels at each scale, the smallest scale first; None is 768 up to 32 pixels, and half of it
            at each larger scale: 384 at 64, 96 at 256.
        blocks: number of blocks at each scale, one number for all or one per scale.
        group_width: channels of each group of the 3x3 convolutions.
        conditioning: head for labels: ``concatenation``, ``projection`` (the paper's) or an auxiliary ``classifier``.
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: the image size is not supported, or widths, blocks or groups do not fit it.
    """

    samples_are_independent = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        widths: Sequence[int] | None = None,
        blocks: int | Sequence[int] = 2,
        group_width: int = 16,
        conditioning: DiscriminatorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning, condition_dim)
        base, channels, depths = _scales(image_shape, widths, blocks, group_width)
        channels.reverse()
        depths.reverse()
        layers: list[nn.Module] = [_initialise(nn.Conv2d(image_shape[0], channels[0], 1, bias=False))]
        for i, width in enumerate(channels):
            if i > 0:
                layers.append(Resample(channels[i - 1], width, [side // 2 ** (i - 1) for side in image_shape[1:]], up=False))
            layers += [Block(width, group_width, sum(depths)) for _ in range(depths[i])]
        whole_map = GroupedConv2d(channels[-1], channels[-1], base, groups=channels[-1], bias=False)
        self.layers = nn.Sequential(*layers, _initialise(whole_map), nn.Flatten())
        self.head = HEADS[conditioning](channels[-1], num_classes, _initialise, condition_dim)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (B, widths[0])
        return features


def _initialise(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """Draw weights from normal(0, gain / sqrt(fan in)), and set biases to zero."""
    weight, bias = layer.weight, getattr(layer, "bias", None)
    assert isinstance(weight, Tensor)
    fan_in = weight[0].numel()  # for an embedding, its dimension
    nn.init.normal_(weight, 0.0, gain * fan_in**-0.5)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
    return layer
