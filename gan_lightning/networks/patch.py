"""PatchGAN: a discriminator of patches (Isola et al. 2017, section 3.2.2 and appendix 6.1.2; Zhu et al. 2017)."""

from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Discriminator, enlarged
from gan_lightning.networks.layers import image_norm, initialise_he, initialise_normal, spectrally_normalized

SLOPE = 0.2
"""Negative slope of LeakyReLU."""


class PatchDiscriminator(Discriminator):
    """Image, and its source -> halved by 4x4 convolutions -> two more of them -> a logit for each patch, (B, h, w).

    A patch is what a logit can see: 16, 34, 70, 142 or 286 pixels wide with 1 to 5 halvings. Neighbouring patches overlap.
    Instance norm also takes its moments from the rest of the image.

    It looks at a source concatenated with its image. A smaller source is enlarged.

    Args:
        image_shape: (C, H, W) of the images.
        num_classes: number of classes of the data; labels are not used.
        source_shape: (C', H', W') of the source images; null looks at images alone.
        width: channels at half the size, doubled at each smaller one up to 8 times.
        layers: number of halvings, at least 1.
        norm: ``instance`` norm of the maps between the first and the last; ``spectral`` norm of every weight (Miyato et al.
            2018); or null.

    Raises:
        InputError: a number is out of range, or the images are too small for so many halvings.
    """

    conditionings = ()
    samples_are_independent = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        source_shape: tuple[int, int, int] | None = None,
        width: int = 64,
        layers: int = 3,
        norm: Literal["instance", "spectral"] | None = "instance",
    ) -> None:
        super().__init__(image_shape, num_classes)
        if width < 1 or layers < 1:
            raise InputError(f"width is {width} and layers is {layers}: use at least 1 for both")
        if norm not in ("instance", "spectral", None):
            raise InputError(f"norm is {norm!r}: use instance, spectral or null")
        least = 3 * 2**layers
        if min(image_shape[1:]) < least:
            raise InputError(
                f"images are {image_shape[1]}x{image_shape[2]}, but PatchDiscriminator with {layers} layers needs sides of at "
                f"least {least} pixels: use fewer layers"
            )
        self.source_shape = None if source_shape is None else tuple(source_shape)
        inputs = image_shape[0] + (0 if source_shape is None else source_shape[0])
        modules: list[nn.Module] = []
        for number in range(layers + 1):
            channels = width * min(2**number, 8)
            normed = norm == "instance" and number > 0
            modules.append(nn.Conv2d(inputs, channels, 4, stride=2 if number < layers else 1, padding=1, bias=not normed))
            modules += [image_norm(channels, "instance")] * normed
            modules.append(nn.LeakyReLU(SLOPE))
            inputs = channels
        self.layers = nn.Sequential(*modules)
        self.head = PatchHead(inputs)
        if norm == "instance":
            initialise_normal(self)
        else:
            initialise_he(self, SLOPE)
        if norm == "spectral":
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d):
                    spectrally_normalized(module)

    def features(self, images: Tensor, source: Tensor | None = None) -> Tensor:
        """Compute the last map (B, F, h', w') of images (B, C, H, W) next to their sources (B, C', H', W').

        Raises:
            ValueError: it looks at sources, but got None, or the reverse.
        """
        if (source is None) != (self.source_shape is None):
            raise ValueError(f"source_shape is {self.source_shape}, but the source is {None if source is None else 'given'}")
        joint = images if source is None else torch.cat([enlarged(source, images), images], dim=1)
        features: Tensor = self.layers(joint)
        return features

    def features_and_logits(self, images: Tensor, source: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the last map (B, F, h', w') and logits (B, h, w) of images (B, C, H, W) next to their sources."""
        features = self.features(images, source)
        return features, self.logits(features)

    def judge(self, images: Tensor, source: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self(images, source), None


class PatchHead(nn.Module):
    """A 4x4 convolution from the last map to logits. Ignores labels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_logits = nn.Conv2d(channels, 1, 4, padding=1)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map features (B, F, h', w') to logits (B, h, w)."""
        logits: Tensor = self.to_logits(features).squeeze(1)
        return logits
