"""Discriminators on the features of a frozen network that was trained on ImageNet: projected and vision-aided GANs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, linear

from gan_lightning.efficientnet import load_backbone, prepare
from gan_lightning.errors import InputError
from gan_lightning.networks.base import Discriminator, in_float32
from gan_lightning.networks.layers import (
    HEADS,
    ClassifierHead,
    DiscriminatorConditioning,
    initialise_he,
    spectrally_normalized,
)

RESOLUTIONS = (32, 1024)
"""Smallest and largest side of the images that the backbone sees."""
SIDE = 4
"""Largest side of the last map of each scale."""
SMALLEST = 8
"""Smallest side of the images whose pixels are discriminated."""
SLOPE = 0.2
"""Negative slope of LeakyReLU."""


class ProjectedDiscriminator(Discriminator):
    """Projected GANs (Sauer et al. 2021): discriminate the features of a frozen network, not the pixels.

    Image -> frozen features at four scales -> fixed random mixing -> a small discriminator per scale -> logits (B, P).

    Each position of each scale's last map has one logit; P is their number, at most 64. The loss is the mean over all of them.
    The frozen network is EfficientNet-Lite0. Its weights are in no checkpoint.

    Differences from the paper: the last maps have at most 4x4 positions, and a scale whose map is that small has a 3x3
    convolution, so that each logit is a nonlinear function of the features also at small resolutions.

    Args:
        image_shape: (C, H, W) of the images, 1 (grey) or 3 (colour) channels, any size.
        num_classes: number of classes of the data.
        resolution: side in pixels to which images are resized for the frozen network, from 32 to 1024. It was trained at 224.
            The time grows with the square.
        width: channels of the finest mixed map, doubled at each coarser scale.
        seed: seed of the random mixing, at least 0.
        batch_norm: batch norm after each convolution, as in the paper. Without it samples are independent, but on few images
            they soon became all alike (see docs/results.md).
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``),
            applied at each position.
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: a number is out of range, or images have neither 1 nor 3 channels.
    """

    kinds: ClassVar[dict[int, str]] = {1: "grey", 3: "colour"}
    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        resolution: int = 224,
        width: int = 64,
        seed: int = 0,
        batch_norm: bool = True,
        conditioning: DiscriminatorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning, condition_dim)
        self.samples_are_independent = not batch_norm
        channels, height, across = image_shape
        if channels not in self.kinds:
            kinds = " or ".join(f"{number} ({kind})" for number, kind in self.kinds.items())
            raise InputError(f"images have {channels} channels, but {type(self).__name__} takes {kinds}")
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
            layers, depth, side = _small_discriminator(inputs, side, 8 * width, batch_norm)
            self.scales.append(layers)
            heads.append(HEADS[conditioning](depth, num_classes, spectrally_normalized, condition_dim))
            positions.append(side**2)
            depths.append(depth)
        self.head = (ClassifierOfPositions if conditioning == "classifier" else HeadOfPositions)(heads, positions, depths)

    def features(self, images: Tensor) -> Tensor:
        maps = self.mixing(self.backbone(self._prepare(images)))
        last = [scale(features).permute(0, 2, 3, 1).flatten(1) for scale, features in zip(self.scales, maps, strict=True)]
        return torch.cat(last, dim=1)  # (B, F), channels last

    def _prepare(self, images: Tensor) -> Tensor:
        """Resize and scale images (B, 1, 3 or 4, H, W) in [-1, 1] for the backbone: (B, 3, resolution, resolution)."""
        if images.shape[1] == 4:
            images = 1 - (images[:, 3:] + 1) / 2 * (1 - images[:, :3])  # on white
        across = linear(images, self.columns)  # (B, C, H, resolution)
        resized = linear(across.transpose(2, 3), self.rows).transpose(2, 3)
        return prepare(resized)


class VisionAidedDiscriminator(ProjectedDiscriminator):
    """Vision-aided GANs (Kumari et al. 2022): discriminate the pixels, and beside them the features of a frozen network.

    The first one sees what the frozen network ignores. The second one knows from the start what things look like. Both have the
    same loss and count equally: logits (B, 2, P) are that of the pixels, repeated P times, and those of the features. Gradient
    penalties apply to the first one alone, as in the paper, so they do not pass through the frozen network.

    Differences from the paper: one frozen network instead of the best three of several, at four scales with fixed random mixing
    (see :class:`ProjectedDiscriminator`), for the whole of the training.

    Args:
        image_shape: (C, H, W) of the images, 1 (grey), 3 (colour) or 4 (colour and opacity) channels, sides of at least 8
            pixels. The frozen network sees transparent images on white.
        num_classes: number of classes of the data.
        resolution: side in pixels to which images are resized for the frozen network, from 32 to 1024.
        width: channels of the finest mixed map of frozen features, doubled at each coarser scale.
        seed: seed of the random mixing, at least 0.
        batch_norm: batch norm after each convolution on frozen features. The discriminator of the pixels has none.
        pixel_width: channels at half the full size, doubled at each smaller scale up to 16 times.
        hidden: units of the dense layer on the last map of the pixels.
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: a number is out of range, or images have another number of channels.
    """

    kinds: ClassVar[dict[int, str]] = {**ProjectedDiscriminator.kinds, 4: "colour and opacity"}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        resolution: int = 224,
        width: int = 64,
        seed: int = 0,
        batch_norm: bool = True,
        pixel_width: int = 64,
        hidden: int = 256,
        conditioning: DiscriminatorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, resolution, width, seed, batch_norm, conditioning, condition_dim)
        if pixel_width < 1:
            raise InputError(f"pixel_width is {pixel_width}: use at least 1")
        if hidden < 1:
            raise InputError(f"hidden is {hidden}: use at least 1")
        if min(image_shape[1:]) < SMALLEST:
            raise InputError(
                f"images of {image_shape[1]}x{image_shape[2]} are too small: use sides of at least {SMALLEST} pixels"
            )
        self.pixels = _pixel_discriminator(image_shape, pixel_width, hidden)
        head = HEADS[conditioning](hidden, num_classes, condition_dim=condition_dim)
        for part in (self.pixels, head):
            initialise_he(part, SLOPE)
        self.head = (ClassifiersSideBySide if conditioning == "classifier" else HeadsSideBySide)(head, self.head, hidden)

    def features(self, images: Tensor) -> Tensor:
        return torch.cat([self.pixels(images), super().features(images)], dim=1)  # (B, hidden + F)

    def penalized_logits(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute the logits (B,) of the pixels alone."""
        with in_float32(self.pixels(images)) as features:
            logits: Tensor = cast(HeadsSideBySide, self.head).pixels(features, labels)
        return logits


class RandomMixing(nn.Module):
    """Fixed random mixing across channels and scales (Sauer et al. 2021, section 3.2).

    A 1x1 convolution mixes the channels of each map. Then, from the coarsest scale to the finest, a 3x3 convolution of the
    mixed map is upsampled (bilinear) and added to the next finer map. Weights are normal, and mixed features have a mean square
    near 1. The weights are buffers: checkpoints have them, nothing trains them.

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
            repeated = None if labels is None else labels.repeat_interleave(count, dim=0)
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
        """Map the last maps of all scales (B, F) to class logits (B, num_classes), or attributes (B, condition_dim)."""
        classes = [
            cast(ClassifierHead, head).classify(vectors).view(len(features), count, -1)  # (B, count, num_classes)
            for head, vectors, count in zip(self.heads, self._vectors(features), self.positions, strict=True)
        ]
        return torch.cat(classes, dim=1).mean(dim=1)


class HeadsSideBySide(nn.Module):
    """The heads of a vision-aided discriminator.

    Args:
        pixels: head of the pixels, for features (B, hidden).
        frozen: head of the frozen features; its logits are (B, P).
        hidden: number of features of the pixels.
    """

    def __init__(self, pixels: nn.Module, frozen: nn.Module, hidden: int) -> None:
        super().__init__()
        self.pixels, self.frozen, self.hidden = pixels, frozen, hidden

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map features (B, hidden + F) and labels (B,) to logits (B, 2, P)."""
        of_pixels, of_frozen = self._split(features)
        frozen: Tensor = self.frozen(of_frozen, labels)
        pixels: Tensor = self.pixels(of_pixels, labels)
        return torch.stack([pixels[:, None].expand_as(frozen), frozen], dim=1)

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features[:, : self.hidden], features[:, self.hidden :]


class ClassifiersSideBySide(HeadsSideBySide):
    """Heads with class logits. Those of an image are the mean of both."""

    def classify(self, features: Tensor) -> Tensor:
        """Map features (B, hidden + F) to class logits (B, num_classes), or attributes (B, condition_dim)."""
        of_pixels, of_frozen = self._split(features)
        pixels = cast(ClassifierHead, self.pixels).classify(of_pixels)
        return (pixels + cast(ClassifierOfPositions, self.frozen).classify(of_frozen)) / 2


def _pixel_discriminator(image_shape: tuple[int, int, int], width: int, hidden: int) -> nn.Sequential:
    """Make layers to features (B, hidden): convolutions halve an image until its shorter side has 4 to 7 pixels."""
    (inputs, *sides), layers = image_shape, list[nn.Module]()
    while min(sides) >= SMALLEST:
        outputs = width * min(16, 2 ** (len(layers) // 2))
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
        inputs, sides = outputs, [side // 2 for side in sides]
    dense = nn.Linear(inputs * sides[0] * sides[1], hidden)
    return nn.Sequential(*layers, nn.Flatten(), dense, nn.LeakyReLU(SLOPE, inplace=True))


def _small_discriminator(inputs: int, side: int, most: int, batch_norm: bool) -> tuple[nn.Sequential, int, int]:
    """Make a scale's convolutions, which halve a map (B, inputs, side, side) until its side is at most 4.

    Returns the layers, and the channels (at most ``most``) and the side of the last map.
    """
    halvings = 0
    while side >> halvings > SIDE:
        halvings += 1
    channels = [min(inputs * 2**number, most) for number in range(halvings + 1)]
    convolutions: list[nn.Module] = [
        nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(channels)
    ] or [nn.Conv2d(inputs, inputs, 3, padding=1)]
    layers: list[nn.Module] = []
    for convolution, width in zip(convolutions, channels[1:] or channels, strict=True):
        norm = [nn.BatchNorm2d(width)] if batch_norm else []
        layers += [spectrally_normalized(convolution), *norm, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers), channels[-1], side >> halvings


def _resizing_matrix(size: int, resolution: int) -> Tensor:
    """Matrix (resolution, size) that resizes a signal, bicubic with antialiasing as in the training of the frozen network.

    A product with it has derivatives of every order, and the same bits on every run on a GPU, unlike torch's resizing.
    """
    return interpolate(torch.eye(size)[None, None], (resolution, size), mode="bicubic", antialias=True)[0, 0]
