"""A small convolutional discriminator held back by dropout: the opponent of a weak, dense generator."""

from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks import layers
from gan_lightning.networks.base import Discriminator


class DropoutConvDiscriminator(Discriminator):
    """Two 3x3 convolutions of stride 2 (64 and 128 channels), each with LeakyReLU 0.2 and dropout, then a dense layer.

    Args:
        image_shape: (C, H, W) of the images, any size.
        num_classes: how many classes the data has.
        width: channels of the first convolution; the second has twice as many.
        dropout: probability of dropping a feature, in [0, 1).
        conditioning: what ends it: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
    """

    samples_are_independent = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        width: int = 64,
        dropout: float = 0.3,
        conditioning: layers.DiscriminatorConditioning | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning)
        if width < 1:
            raise InputError(f"width is {width}: it must be at least 1")
        channels, height, across = image_shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            layers.dropout(dropout),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            layers.dropout(dropout),
            nn.Flatten(),
        )
        self.head = layers.HEADS[conditioning](2 * width * -(-height // 4) * -(-across // 4), num_classes)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (B, 2 * width * ceil(H / 4) * ceil(W / 4))
        return features
