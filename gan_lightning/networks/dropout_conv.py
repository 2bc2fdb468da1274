"""A small convolutional discriminator held back by dropout: the opponent of a weak, dense generator."""

from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks import layers
from gan_lightning.networks.base import Discriminator

SLOPE = 0.2
"""Negative slope of LeakyReLU."""


class DropoutConvDiscriminator(Discriminator):
    """Three 3x3 convolutions of stride 2 (64, 128 and 256 channels) and a dense layer, each with LeakyReLU 0.2 and dropout.

    The convolutions see windows of 15 pixels, and the dense layer combines them. Weights start with He's initialisation,
    because there is no batch norm.

    Args:
        image_shape: (C, H, W) of the images, any size.
        num_classes: number of classes of the data.
        width: channels of the first convolution, doubled by each of the others.
        hidden: units of the dense layer.
        dropout: probability of dropping a feature, in [0, 1).
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
        condition_dim: number of attributes of the data; 0 if it has none.
    """

    samples_are_independent = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        width: int = 64,
        hidden: int = 256,
        dropout: float = 0.3,
        conditioning: layers.DiscriminatorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning, condition_dim)
        if width < 1 or hidden < 1:
            raise InputError(f"width is {width} and hidden is {hidden}: use at least 1 for both")
        inputs, height, across = image_shape
        sequence: list[nn.Module] = []
        for channels in (width, 2 * width, 4 * width):
            sequence += [
                nn.Conv2d(inputs, channels, 3, stride=2, padding=1),
                nn.LeakyReLU(SLOPE, inplace=True),
                layers.dropout(dropout),
            ]
            inputs, height, across = channels, (height + 1) // 2, (across + 1) // 2
        sequence += [
            nn.Flatten(),
            nn.Linear(inputs * height * across, hidden),
            nn.LeakyReLU(SLOPE, inplace=True),
            layers.dropout(dropout),
        ]
        self.layers = nn.Sequential(*sequence)
        self.head = layers.HEADS[conditioning](hidden, num_classes, condition_dim=condition_dim)
        layers.initialise_he(self, SLOPE)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (B, hidden)
        return features
