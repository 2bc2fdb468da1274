"""Residual networks of SNGAN (Miyato et al. 2018, appendix B.4; with projection: Miyato and Koyama 2018) and WGAN-GP."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.layers import (
    HEADS,
    DiscriminatorConditioning,
    GeneratorConditioning,
    LabelEmbedding,
    LabelledSequential,
    Wrap,
    as_is,
    batch_norm,
    halvings,
    spectrally_normalized,
)

GENERATOR_WIDTHS = {
    2: (256, 256, 256),
    3: (256, 256, 256, 256),  # Miyato et al. 2018, table 4
    4: (1024, 512, 256, 128, 64),  # table 6 from its second scale on
    5: (1024, 1024, 512, 256, 128, 64),  # table 6
    6: (1024, 1024, 1024, 512, 256, 128, 64),
    7: (1024, 1024, 1024, 1024, 512, 256, 128, 64),
}
"""Doublings from the smallest feature map to the image, 3 for 32 pixels -> channels of that map and after each doubling."""

DISCRIMINATOR_WIDTHS = {
    2: (128, 128, 128, 128),
    3: (128, 128, 128, 128),
    4: (64, 128, 256, 512, 1024),
    5: (64, 128, 256, 512, 1024, 1024),
    6: (64, 128, 256, 512, 1024, 1024, 1024),
    7: (64, 128, 256, 512, 1024, 1024, 1024, 1024),
}
"""Doublings of the generator for these images -> channels after each block."""


def _doublings(image_shape: tuple[int, int, int]) -> int:
    return halvings(image_shape, "a residual network", 16, max(GENERATOR_WIDTHS))


class SelfAttention(nn.Module):
    """Self-attention between all positions (SAGAN, Zhang et al. 2019, section 3): x + scale * attention(x), scale 0 at first.

    The authors' code halves keys and values by pooling; here every position is compared with every other, as in the paper.

    Args:
        channels: channels of the feature map. Queries and keys have an eighth of them, values half.
        wrap: function applied to each layer with weights.
    """

    def __init__(self, channels: int, wrap: Wrap = as_is) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query, self.key, self.value = (wrap(nn.Conv2d(channels, width, 1, bias=False)) for width in (narrow, narrow, half))
        self.output = wrap(nn.Conv2d(half, channels, 1, bias=False))
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))  # (B, C', H * W)
        weights = (query.transpose(1, 2) @ key).softmax(dim=2)  # (B, from, to)
        attended = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        result: Tensor = x + self.scale * self.output(attended)
        return result


class GeneratorBlock(nn.Module):
    """Norm, ReLU, doubling, 3x3, norm, ReLU, 3x3, with a shortcut of doubling and 1x1."""

    def __init__(self, inputs: int, outputs: int, num_classes: int, conditioning: str | None, condition_dim: int = 0) -> None:
        super().__init__()
        self.norm1 = LabelledSequential(batch_norm(inputs, 2, num_classes, conditioning, condition_dim), nn.ReLU())
        self.norm2 = LabelledSequential(batch_norm(outputs, 2, num_classes, conditioning, condition_dim), nn.ReLU())
        self.conv1, self.conv2 = _conv3(inputs, outputs), _conv3(outputs, outputs)
        self.shortcut = _xavier(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2 H, 2 W)."""
        h = self.conv1(_doubled(self.norm1(x, labels)))
        h = self.conv2(self.norm2(h, labels))
        result: Tensor = h + _doubled(self.shortcut(x))  # a 1x1 convolution may as well come before the doubling
        return result


class DiscriminatorBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, halving, with a shortcut of 1x1 and halving.

    Args:
        inputs: input channels.
        outputs: output channels.
        halve: halve height and width.
        first: leave out the ReLU before the first convolution, because its input is pixels.
        wrap: function applied to each layer with weights.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool, wrap: Wrap) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        self.conv1 = wrap(_conv3(inputs, outputs))
        self.conv2 = wrap(_conv3(outputs, outputs))
        self.shortcut: nn.Module | None = None
        if halve or inputs != outputs:
            self.shortcut = wrap(_xavier(nn.Conv2d(inputs, outputs, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), or half as high and wide."""
        h = self.conv2(relu(self.conv1(x if self.first else relu(x))))
        if self.halve:  # pooling and a 1x1 convolution commute, and pixels first is the cheaper order
            x, h = avg_pool2d(x, 2), avg_pool2d(h, 2)
        result: Tensor = h + (x if self.shortcut is None else self.shortcut(x))
        return result


class ResNetGenerator(Generator):
    """Latent -> 4x4 (7x7 for 28 pixels; 4x6 for 64x96) -> a residual block for each doubling -> norm, ReLU, 3x3 -> image, tanh.

    Args:
        image_shape: (C, H, W), sides of at least 16 pixels that can be halved until the shorter one has 4 to 7.
        num_classes: number of classes of the data.
        latent_dim: dimension of the latent.
        widths: channels of the smallest feature map and after each doubling; None is the paper's widths for 32 and 128 pixels,
            and similar ones for the other sizes.
        attention_at: height of the feature map that gets self-attention; 0 is none.
        conditioning: ``concatenation`` of an embedding of the label to z, or class-conditional ``batch_norm`` in the blocks.
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: the image size is not supported, widths do not fit it, or no feature map has the height ``attention_at``.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 128,
        widths: Sequence[int] | None = None,
        attention_at: int = 0,
        conditioning: GeneratorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, latent_dim, conditioning, condition_dim)
        doublings = _doublings(image_shape)
        channels = list(GENERATOR_WIDTHS[doublings] if widths is None else widths)
        if len(channels) != doublings + 1 or min(channels) < 1:
            raise InputError(f"widths is {channels}: for these images use {doublings + 1} widths of at least 1")
        base = [side // 2**doublings for side in image_shape[1:]]
        self.label_embedding = (
            LabelEmbedding(num_classes, condition_dim=condition_dim) if conditioning == "concatenation" else None
        )
        inputs = latent_dim + (self.label_embedding.dim if self.label_embedding else 0)
        linear = _xavier(nn.Linear(inputs, channels[0] * base[0] * base[1]))
        self.stem = nn.Sequential(linear, nn.Unflatten(1, (channels[0], *base)))
        self.blocks = nn.ModuleList(
            GeneratorBlock(channels[i], channels[i + 1], num_classes, conditioning, condition_dim) for i in range(doublings)
        )
        sizes = [base[0] * 2 ** (i + 1) for i in range(doublings)]
        self.attention = _attention(attention_at, sizes, channels[1:], as_is)
        self.attention_at = attention_at
        to_image = _xavier(nn.Conv2d(channels[-1], image_shape[0], 3, padding=1))
        self.to_image = nn.Sequential(nn.BatchNorm2d(channels[-1]), nn.ReLU(), to_image, nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.label_embedding is not None:
            z = self.label_embedding(z, labels)
        x = self.stem(z)
        for block in self.blocks:
            x = block(x, labels)
            if self.attention is not None and x.shape[2] == self.attention_at:
                x = self.attention(x)
        images: Tensor = self.to_image(x)  # (B, C, H, W)
        return images


class ResNetDiscriminator(Discriminator):
    """Image -> residual blocks, the first ones halving -> ReLU -> pooling over positions -> logit. Its only norm is spectral.

    The authors' code differs in two points. The hidden channels of its blocks, except the first, are as many as come in; here
    as many as go out (at 128 pixels 38.4 million parameters instead of 29.0). At 64 pixels it halves five times; here four.

    Args:
        image_shape: (C, H, W), sides of at least 16 pixels that can be halved until the shorter one has 4 to 7.
        num_classes: number of classes of the data.
        widths: channels after each block; None is the paper's widths for 32 and 128 pixels, and similar ones for the other
            sizes.
        spectral_norm: divide the weight of every layer between image and logit by its largest singular value (Miyato et al.
            2018). WGAN-GP has none.
        pool: ``sum`` over positions (SNGAN) or ``mean`` (WGAN-GP).
        attention_at: height of the feature map that gets self-attention; 0 is none.
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: the image size is not supported, widths do not fit it, or no feature map has the height ``attention_at``.
    """

    samples_are_independent = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        widths: Sequence[int] | None = None,
        spectral_norm: bool = True,
        pool: Literal["sum", "mean"] = "sum",
        attention_at: int = 0,
        conditioning: DiscriminatorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning, condition_dim)
        doublings = _doublings(image_shape)
        halved = 2 if doublings == 3 else doublings  # at 32 pixels as in the paper's table 4
        channels = list(DISCRIMINATOR_WIDTHS[doublings] if widths is None else widths)
        if len(channels) < halved or min(channels) < 1:
            raise InputError(f"widths is {channels}: for these images use {halved} or more widths of at least 1")
        wrap = spectrally_normalized if spectral_norm else as_is
        inputs = [image_shape[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(inputs[i], channels[i], halve=i < halved, first=i == 0, wrap=wrap) for i in range(len(channels))
        )
        sizes = [image_shape[1] // 2 ** min(i + 1, halved) for i in range(len(channels))]
        self.attention = _attention(attention_at, sizes, channels, wrap)
        self.attention_at = attention_at
        if pool not in ("sum", "mean"):
            raise InputError(f"pool is {pool!r}: use sum or mean")
        self.pool = pool
        self.head = HEADS[conditioning](channels[-1], num_classes, lambda layer: wrap(_xavier(layer)), condition_dim)

    def features(self, images: Tensor) -> Tensor:
        x, attended = images, False
        for block in self.blocks:
            x = block(x)
            if self.attention is not None and not attended and x.shape[2] == self.attention_at:
                x, attended = self.attention(x), True
        x = relu(x)
        return x.sum(dim=(2, 3)) if self.pool == "sum" else x.mean(dim=(2, 3))  # (B, widths[-1])


def _attention(size: int, sizes: Sequence[int], channels: Sequence[int], wrap: Wrap) -> SelfAttention | None:
    """Make self-attention for the first feature map of this size."""
    if size == 0:
        return None
    if size not in sizes:
        raise InputError(f"attention_at is {size}: use the size of a feature map, {', '.join(map(str, dict.fromkeys(sizes)))}")
    return SelfAttention(channels[list(sizes).index(size)], wrap)


def _conv3(inputs: int, outputs: int) -> nn.Module:
    return _xavier(nn.Conv2d(inputs, outputs, 3, padding=1), gain=2**0.5)


def _xavier(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """Draw uniform weights after Glorot and Bengio 2010, and set biases to zero, like the authors' code."""
    weight, bias = layer.weight, getattr(layer, "bias", None)
    assert isinstance(weight, Tensor)
    nn.init.xavier_uniform_(weight, gain)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
    return layer


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")
