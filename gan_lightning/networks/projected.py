"""Projected GANs (Sauer et al. 2021): a discriminator on the features of a frozen network that was trained on ImageNet."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, linear

from gan_lightning.efficientnet import load_backbone, prepare
from gan_lightning.errors import InputError
from gan_lightning.networks.base import Discriminator
from gan_lightning.networks.layers import HEADS, ClassifierHead, DiscriminatorConditioning, spectrally_normalized

RESOLUTIONS = (32, 1024)
"""Smallest and largest side of the images that the backbone sees."""
SIDE = 4
"""Largest side of the last map of each scale."""
SLOPE = 0.2
"""Negative slope of LeakyReLU."""


class ProjectedDiscriminator(Discriminator):
    """Image -> frozen features at four scales -> fixed random mixing -> a small discriminator per scale -> logits (B, P).

    Each position of each scale's last map has one logit; P is their number, at most 64. The loss is the mean over all of them.
    The frozen network is EfficientNet-Lite0. Its weights are in no checkpoint.

    Differences from the paper: the last maps have at most 4x4 positions, and the two coarse scales have a 3x3 convolution, so
    that each logit is a nonlinear function of the features also at small resolutions. There is no batch norm, so samples are
    independent.

    Args:
        image_shape: (C, H, W) of the images, 1 (grey) or 3 (colour) channels, any size.
        num_classes: number of classes of the data.
        resolution: side in pixels to which images are resized for the frozen network, from 32 to 1024. It was trained at 224.
            The time grows with the square.
        width: channels of the finest mixed map, doubled at each coarser scale.
        seed: seed of the random mixing, at least 0.
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``),
            applied at each position.

    Raises:
        InputError: a number is out of range, or images have neither 1 nor 3 channels.
    """

    samples_are_independent = True
    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        resolution: int = 224,
        width: int = 64,
        seed: int = 0,
        conditioning: DiscriminatorConditioning | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning)
        channels, height, across = image_shape
        if channels not in (1, 3):
            raise InputError(f"images have {channels} channels, but ProjectedDiscriminator takes 1 (grey) or 3 (colour)")
        smallest, largest = RESOLUTIONS
        if not smallest <= resolution <= largest:
            raise InputError(f"resolution is {resolution}: use {smallest} to {largest} pixels")
        if width < 1:
            raise InputError(f"width is {width}: use at least 1")
        if not 0 <= seed < 2**63:
            raise InputError(f"seed is {seed}: use at least 0 and below 2^63")
        self.register_buffer("rows", _resizing_matrix(height, resolution), persistent=False)
        self.register_buffer("columns", _resizing_matrix(across, resolution), persistent=False)
        self.backbone = load_backbone()
        widths = [width * 2**scale for scale in range(4)]
        self.mixing = RandomMixing(self.backbone.channels, self.backbone.deviations, widths, seed)
        self.scales = nn.ModuleList()
        heads, positions, depths = [], [], []
        for scale, inputs in enumerate(widths):
            side = -(-resolution // 2 ** (scale + 2))
            layers, depth, side = _small_discriminator(inputs, side, most=8 * width)
            self.scales.append(layers)
            heads.append(HEADS[conditioning](depth, num_classes, spectrally_normalized))
            positions.append(side**2)
            depths.append(depth)
        self.head = (ClassifierOfPositions if conditioning == "classifier" else HeadOfPositions)(heads, positions, depths)

    def features(self, images: Tensor) -> Tensor:
        maps = self.mixing(self.backbone(self._prepare(images)))
        last = [scale(features).permute(0, 2, 3, 1).flatten(1) for scale, features in zip(self.scales, maps, strict=True)]
        return torch.cat(last, dim=1)  # (B, F), channels last

    def _prepare(self, images: Tensor) -> Tensor:
        """Resize and scale images (B, 1 or 3, H, W) in [-1, 1] for the backbone: (B, 3, resolution, resolution)."""
        across = linear(images, self.columns)  # (B, C, H, resolution)
        resized = linear(across.transpose(2, 3), self.rows).transpose(2, 3)
        return prepare(resized)


class RandomMixing(nn.Module):
    """Fixed random mixing across channels and scales (Sauer et al. 2021, section 3.2).

    A 1x1 convolution mixes the channels of each map. Then, from the coarsest scale to the finest, a 3x3 convolution of the
    mixed map is upsampled (bilinear) and added to the next finer map. Weights are normal, and mixed features have a mean square
    near 1, because no batch norm follows as in the paper. The weights are buffers: checkpoints have them, nothing trains them.

    Args:
        inputs: channels of the maps, the finest first.
        deviations: standard deviation of each map.
        outputs: channels of the mixed maps.
        seed: seed of the weights.
    """

    def __init__(self, inputs: Sequence[int], deviations: Sequence[float], outputs: Sequence[int], seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        sizes = zip(inputs, outputs, deviations, strict=True)
        self.across_channels = nn.ModuleList(FixedConv2d(i, o, 1, random, deviation) for i, o, deviation in sizes)
        self.across_scales = nn.ModuleList(FixedConv2d(coarse, fine, 3, random) for fine, coarse in pairwise(outputs))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map maps (B, inputs, H, W), the finest first, to (B, outputs, H, W)."""
        *finer, coarsest = [mix(features) for mix, features in zip(self.across_channels, maps, strict=True)]
        mixed = [coarsest]
        for features, mix in zip(reversed(finer), reversed(self.across_scales), strict=True):
            coarse = interpolate(mix(mixed[0]), features.shape[2:], mode="bilinear")
            mixed.insert(0, (features + coarse) * 0.5**0.5)
        return mixed


class FixedConv2d(nn.Module):
    """A convolution without bias whose weight is a buffer, drawn once. It divides by the deviation of its inputs."""

    weight: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, random: torch.Generator, deviation: float = 1.0) -> None:
        super().__init__()
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=random)
        self.register_buffer("weight", weight / (inputs * kernel**2) ** 0.5 / deviation)

    def forward(self, images: Tensor) -> Tensor:
        return conv2d(images, self.weight, padding="same")


class HeadOfPositions(nn.Module):
    """One head per scale, applied at each position of the scale's last map.

    Args:
        heads: head of each scale.
        positions: number of positions of each last map.
        channels: channels of each last map.
    """

    def __init__(self, heads: Sequence[nn.Module], positions: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.positions, self.channels = positions, channels

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map the last maps of all scales (B, F), each channels last, and labels (B,) to logits (B, P)."""
        logits = []
        for head, vectors, count in zip(self.heads, self._vectors(features), self.positions, strict=True):
            repeated = None if labels is None else labels.repeat_interleave(count)
            logits.append(head(vectors, repeated).view(-1, count))
        return torch.cat(logits, dim=1)

    def _vectors(self, features: Tensor) -> list[Tensor]:
        """Split features (B, F) into the vectors (B * positions, channels) of each scale."""
        sizes = [count * channels for count, channels in zip(self.positions, self.channels, strict=True)]
        parts = torch.split(features, sizes, dim=1)
        return [part.reshape(-1, channels) for part, channels in zip(parts, self.channels, strict=True)]


class ClassifierOfPositions(HeadOfPositions):
    """Heads with class logits. Those of an image are the mean over its positions."""

    def classify(self, features: Tensor) -> Tensor:
        """Map the last maps of all scales (B, F) to class logits (B, num_classes)."""
        classes = [
            cast(ClassifierHead, head).classify(vectors).view(len(features), count, -1)  # (B, count, num_classes)
            for head, vectors, count in zip(self.heads, self._vectors(features), self.positions, strict=True)
        ]
        return torch.cat(classes, dim=1).mean(dim=1)


def _small_discriminator(inputs: int, side: int, most: int) -> tuple[nn.Sequential, int, int]:
    """Make a scale's convolutions: they halve a map (B, inputs, side, side) until its side is at most 4.

    Returns the layers, and the channels (at most ``most``) and the side of the last map.
    """
    halvings = 0
    while side >> halvings > SIDE:
        halvings += 1
    channels = [min(inputs * 2**number, most) for number in range(halvings + 1)]
    convolutions: list[nn.Module] = [
        nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(channels)
    ] or [nn.Conv2d(inputs, inputs, 3, padding=1)]
    layers = [layer for convolution in convolutions for layer in (spectrally_normalized(convolution), nn.LeakyReLU(SLOPE))]
    return nn.Sequential(*layers), channels[-1], side >> halvings


def _resizing_matrix(size: int, resolution: int) -> Tensor:
    """Matrix (resolution, size) that resizes a signal, bicubic with antialiasing as in the training of the frozen network.

    A product with it has derivatives of every order, and the same bits on every run on a GPU, unlike torch's resizing.
    """
    return interpolate(torch.eye(size)[None, None], (resolution, size), mode="bicubic", antialias=True)[0, 0]
