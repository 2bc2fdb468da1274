"""DCGAN (Radford et al. 2016): strided convolutions with batch norm, doubled or halved in width at every scale."""

from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.layers import (
    HEADS,
    DiscriminatorConditioning,
    GeneratorConditioning,
    LabelEmbedding,
    LabelledSequential,
    batch_norm,
    halvings,
    initialise_he,
    initialise_normal,
)

HIDDEN = 256
"""Default units of the discriminator's dense layer, if no window of its last map spans the image: from 16 to 28 pixels."""
LARGEST_FACTOR = 16
"""Channels of the widest maps, in widths. It counts from 256 pixels on."""
SLOPE = 0.2
"""Negative slope of the discriminator's LeakyReLU."""


def _check(image_shape: tuple[int, int, int], width: int, hidden: int | None) -> int:
    """Return the number of halvings from the images to the generator's smallest map.

    Raises:
        InputError: the network does not support the images, or a width is out of range.
    """
    if width < 1:
        raise InputError(f"width is {width}: use at least 1")
    if hidden is not None and hidden < 0:
        raise InputError(f"hidden is {hidden}: use a number of units, or 0 for no hidden layer")
    return halvings(image_shape, "DCGAN", 8)


def _channels(width: int, scale: int) -> int:
    """Channels of a map that is 2^scale times as small as the one at half the full size."""
    return width * min(1 << scale, LARGEST_FACTOR)


class DCGANGenerator(Generator):
    """Latent -> 4x4 (7x7 for 28 pixels; 4x6 for 64x96) -> doubled by transposed convolutions -> image, tanh.

    Args:
        image_shape: (C, H, W), sides of at least 8 pixels that can be halved until the shorter one has 4 to 7.
        num_classes: number of classes of the data.
        latent_dim: dimension of the latent.
        width: channels at half the full size, doubled at each smaller scale up to 16 times.
        hidden: units of a dense layer between the latent and the smallest map; 0 is none, as in the paper.
        conditioning: ``concatenation`` of an embedding of the label to z, or class-conditional ``batch_norm``.
        condition_dim: number of attributes of the data; 0 if it has none.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 100,
        width: int = 64,
        hidden: int = 0,
        conditioning: GeneratorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, latent_dim, conditioning, condition_dim)
        doublings = _check(image_shape, width, hidden)
        base = [side // 2**doublings for side in image_shape[1:]]
        self.label_embedding = (
            LabelEmbedding(num_classes, condition_dim=condition_dim) if conditioning == "concatenation" else None
        )
        inputs = latent_dim + (self.label_embedding.dim if self.label_embedding else 0)
        channels = _channels(width, doublings - 1)
        layers: list[nn.Module] = []
        if hidden:
            layers += [
                nn.Linear(inputs, hidden, bias=False),
                batch_norm(hidden, 1, num_classes, conditioning, condition_dim),
                nn.ReLU(inplace=True),
            ]
            inputs = hidden
        layers += [
            nn.Linear(inputs, channels * base[0] * base[1], bias=False),
            nn.Unflatten(1, (channels, *base)),
            batch_norm(channels, 2, num_classes, conditioning, condition_dim),
            nn.ReLU(inplace=True),
        ]
        for scale in reversed(range(doublings - 1)):
            inputs, channels = channels, _channels(width, scale)
            layers += [
                nn.ConvTranspose2d(inputs, channels, 4, stride=2, padding=1, bias=False),
                batch_norm(channels, 2, num_classes, conditioning, condition_dim),
                nn.ReLU(inplace=True),
            ]
        # no batch norm at the generator's output, nor at the discriminator's input
        to_image = nn.ConvTranspose2d(channels, image_shape[0], 4, stride=2, padding=1)
        self.layers = LabelledSequential(*layers, to_image, nn.Tanh())
        initialise_normal(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.label_embedding is not None:
            z = self.label_embedding(z, labels)
        images: Tensor = self.layers(z, labels)  # (B, C, H, W)
        return images


class DCGANDiscriminator(Discriminator):
    """Image -> halved by strided convolutions, even sizes by 4x4 and odd ones by 3x3 kernels -> logit.

    28 pixels become 14, 7 and 4, and a dense layer follows. Without it the logit would be a sum of functions of 18x18 windows,
    and would not relate a digit's top and bottom. Radford's normal(0, 0.02) belongs to convolutions with batch norm. Layers
    without it start with He's initialisation (He et al. 2015, equation 14): 0.02 would leave a hundredth of the gradient at the
    images.

    Args:
        image_shape: (C, H, W), sides of at least 8 pixels that can be halved until the shorter one has 4 to 7.
        num_classes: number of classes of the data.
        width: channels at half the full size, doubled at each smaller scale up to 16 times.
        hidden: units of a dense layer between the last map and the head; 0 is none, as in the paper. The default is 256 from 16
            to 28 pixels, and none at the other sizes, because their windows span the image.
        batch_norm: batch norm after each convolution except the first, as in the paper. Turn it off with penalties on
            gradients and with weight clipping.
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
        condition_dim: number of attributes of the data; 0 if it has none.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        width: int = 64,
        hidden: int | None = None,
        batch_norm: bool = True,
        conditioning: DiscriminatorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning, condition_dim)
        doublings = _check(image_shape, width, hidden)
        hidden = HIDDEN * (doublings == 2) if hidden is None else hidden
        self.samples_are_independent = not batch_norm
        layers: list[nn.Module] = []
        inputs, sides = image_shape[0], list(image_shape[1:])
        number = 0
        while number < 2 or min(sides) > 5:  # 8 pixels become 2, and 28 become 4
            channels = _channels(width, number)
            normalised = batch_norm and number > 0
            kernel = (3 if sides[0] % 2 else 4, 3 if sides[1] % 2 else 4)
            layers.append(nn.Conv2d(inputs, channels, kernel, stride=2, padding=1, bias=not normalised))
            if normalised:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
            inputs, sides, number = channels, [(side + 1) // 2 for side in sides], number + 1
        convolutions = nn.Sequential(*layers)
        layers.append(nn.Flatten())
        features = inputs * sides[0] * sides[1]
        if hidden:
            layers += [nn.Linear(features, hidden), nn.LeakyReLU(SLOPE, inplace=True)]
            features = hidden
        self.layers = nn.Sequential(*layers)
        self.head = HEADS[conditioning](features, num_classes, condition_dim=condition_dim)
        initialise_he(self, SLOPE)
        if batch_norm:
            initialise_normal(convolutions)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (B, F)
        return features
