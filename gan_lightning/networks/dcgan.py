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
    initialise_he,
)

SIZES = {28: (7, 2), 8: (4, 1), 16: (4, 2), 32: (4, 3), 64: (4, 4), 128: (4, 5)}
"""Image size -> (size of the generator's smallest feature map, number of doublings from there)."""
HALVINGS = {8: 2, 16: 2, 28: 3, 32: 3, 64: 4, 128: 5}
"""Image size -> halvings of the discriminator."""
HIDDEN = {16: 256, 28: 256}
"""Image size -> default units of the discriminator's dense layer, if no window of its last map spans the image."""
SLOPE = 0.2
"""Negative slope of the discriminator's LeakyReLU."""


def _check(image_shape: tuple[int, int, int], width: int, hidden: int | None) -> int:
    """Return the side of the images.

    Raises:
        InputError: the images are not square or of another size, or a width is out of range.
    """
    _, height, across = image_shape
    if height != across or height not in SIZES:
        raise InputError(
            f"images are {height}x{across}, but DCGAN supports only squares of {', '.join(map(str, sorted(SIZES)))} pixels"
        )
    if width < 1:
        raise InputError(f"width is {width}: use at least 1")
    if hidden is not None and hidden < 0:
        raise InputError(f"hidden is {hidden}: use a number of units, or 0 for no hidden layer")
    return height


def _initialise(network: nn.Module) -> None:
    """Initialise as Radford et al. 2016, section 4: weights from normal(0, 0.02); batch norm's scales likewise, around 1."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, ConditionalBatchNorm):
            nn.init.normal_(module.scale.weight, 1.0, 0.02)


class DCGANGenerator(Generator):
    """Latent -> 4x4 (7x7 for 28 pixels) -> doubled by transposed convolutions -> image, tanh.

    Args:
        image_shape: (C, H, W), square, 28 pixels or a power of two from 8 to 128.
        num_classes: number of classes of the data.
        latent_dim: dimension of the latent.
        width: channels at half the full size, doubled at each smaller scale.
        hidden: units of a dense layer between the latent and the smallest map; 0 is none, as in the paper.
        conditioning: ``concatenation`` of an embedding of the label to z, or class-conditional ``batch_norm``.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 100,
        width: int = 64,
        hidden: int = 0,
        conditioning: GeneratorConditioning | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, latent_dim, conditioning)
        base, doublings = SIZES[_check(image_shape, width, hidden)]
        self.label_embedding = LabelEmbedding(num_classes) if conditioning == "concatenation" else None
        inputs = latent_dim + (self.label_embedding.dim if self.label_embedding else 0)
        channels = width * 2 ** (doublings - 1)
        layers: list[nn.Module] = []
        if hidden:
            layers += [
                nn.Linear(inputs, hidden, bias=False),
                batch_norm(hidden, 1, num_classes, conditioning),
                nn.ReLU(inplace=True),
            ]
            inputs = hidden
        layers += [
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
    """Image -> halved by strided convolutions, even sizes by 4x4 and odd ones by 3x3 kernels -> logit.

    28 pixels become 14, 7 and 4, and a dense layer follows. Without it the logit would be a sum of functions of 18x18 windows,
    and would not relate a digit's top and bottom. Radford's normal(0, 0.02) belongs to convolutions with batch norm. Layers
    without it start with He's initialisation (He et al. 2015, equation 14): 0.02 would leave a hundredth of the gradient at the
    images.

    Args:
        image_shape: (C, H, W), square, 28 pixels or a power of two from 8 to 128.
        num_classes: number of classes of the data.
        width: channels at half the full size, doubled at each smaller scale.
        hidden: units of a dense layer between the last map and the head; 0 is none, as in the paper. The default is 256 at 16
            and 28 pixels, and none at the other sizes, because their windows span the image.
        batch_norm: batch norm after each convolution except the first, as in the paper. Turn it off with penalties on
            gradients and with weight clipping.
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        width: int = 64,
        hidden: int | None = None,
        batch_norm: bool = True,
        conditioning: DiscriminatorConditioning | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning)
        size = _check(image_shape, width, hidden)
        hidden = HIDDEN.get(size, 0) if hidden is None else hidden
        self.samples_are_independent = not batch_norm
        layers: list[nn.Module] = []
        inputs, channels = image_shape[0], width
        for number in range(HALVINGS[size]):
            normalised = batch_norm and number > 0
            layers.append(nn.Conv2d(inputs, channels, 3 if size % 2 else 4, stride=2, padding=1, bias=not normalised))
            if normalised:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
            inputs, channels, size = channels, 2 * channels, (size + 1) // 2
        convolutions = nn.Sequential(*layers)
        layers.append(nn.Flatten())
        features = inputs * size * size
        if hidden:
            layers += [nn.Linear(features, hidden), nn.LeakyReLU(SLOPE, inplace=True)]
            features = hidden
        self.layers = nn.Sequential(*layers)
        self.head = HEADS[conditioning](features, num_classes)
        initialise_he(self, SLOPE)
        if batch_norm:
            _initialise(convolutions)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (B, F)
        return features
