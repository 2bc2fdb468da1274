"""DCGAN (Radford et al. 2016): strided convolutions with batch norm, doubled or halved in width at every scale."""

from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.layers import (
    HEADS,
    ConditionalBatchNorm,
    DiscriminatorConditioning,
    GeneratorConditioning,
    LabelEmbedding,
    LabelledSequential,
    batch_norm,
)

SIZES = {28: (7, 2), 8: (4, 1), 16: (4, 2), 32: (4, 3), 64: (4, 4), 128: (4, 5)}
"""Image size -> (size of the smallest feature map, how often it is doubled)."""


def _scales(image_shape: tuple[int, int, int], width: int) -> tuple[int, int]:
    _, height, across = image_shape
    if height != across or height not in SIZES:
        raise InputError(f"DCGAN makes square images of {', '.join(map(str, sorted(SIZES)))} pixels, not {height} x {across}")
    if width < 1:
        raise InputError(f"width is {width}: it must be at least 1")
    return SIZES[height]


def _initialise(network: nn.Module) -> None:
    """Radford et al. 2016, section 4: weights from normal(0, 0.02); batch norm's scales likewise, but about 1."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, ConditionalBatchNorm):
            nn.init.normal_(module.scale.weight, 1.0, 0.02)


class DCGANGenerator(Generator):
    """Latent -> 4x4 (7x7 for 28 pixels) -> doubled by transposed convolutions -> image, tanh.

    Args:
        image_shape: (C, H, W), square, 28 pixels or a power of two from 8 to 128.
        num_classes: how many classes the data has.
        latent_dim: the dimension of the latent.
        width: channels at half the full size, doubled at each smaller scale.
        conditioning: ``concatenation`` of an embedding of the label to z, or class-conditional ``batch_norm``.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 100,
        width: int = 64,
        conditioning: GeneratorConditioning | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, latent_dim, conditioning)
        base, doublings = _scales(image_shape, width)
        self.label_embedding = LabelEmbedding(num_classes) if conditioning == "concatenation" else None
        inputs = latent_dim + (self.label_embedding.dim if self.label_embedding else 0)
        channels = width * 2 ** (doublings - 1)
        layers: list[nn.Module] = [
            nn.Linear(inputs, channels * base * base, bias=False),
            nn.Unflatten(1, (channels, base, base)),
            batch_norm(channels, 2, num_classes, conditioning),
            nn.ReLU(inplace=True),
        ]
        for _ in range(doublings - 1):
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False),
                batch_norm(channels // 2, 2, num_classes, conditioning),
                nn.ReLU(inplace=True),
            ]
            channels //= 2
        # no batch norm at the generator's output, nor at the discriminator's input
        to_image = nn.ConvTranspose2d(channels, image_shape[0], 4, stride=2, padding=1)
        self.layers = LabelledSequential(*layers, to_image, nn.Tanh())
        _initialise(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.label_embedding is not None:
            z = self.label_embedding(z, labels)
        images: Tensor = self.layers(z, labels)  # (B, C, H, W)
        return images


class DCGANDiscriminator(Discriminator):
    """Image -> halved by strided convolutions down to 4x4 (7x7 for 28 pixels) -> logit.

    Args:
        image_shape: (C, H, W), square, 28 pixels or a power of two from 8 to 128.
        num_classes: how many classes the data has.
        width: channels at half the full size, doubled at each smaller scale.
        batch_norm: batch norm after each convolution but the first, as in the paper. Penalties on gradients, and weight
            clipping, do without.
        conditioning: what ends it: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        width: int = 64,
        batch_norm: bool = True,
        conditioning: DiscriminatorConditioning | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning)
        base, halvings = _scales(image_shape, width)
        self.samples_are_independent = not batch_norm
        layers: list[nn.Module] = [
            nn.Conv2d(image_shape[0], width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        channels = width
        for _ in range(halvings - 1):
            layers += [
                nn.Conv2d(channels, channels * 2, 4, stride=2, padding=1, bias=not batch_norm),
                *([nn.BatchNorm2d(channels * 2)] if batch_norm else []),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels *= 2
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = HEADS[conditioning](channels * base * base, num_classes)
        _initialise(self)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (B, channels * base * base)
        return features
