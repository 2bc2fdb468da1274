"""SRResNet: the generator of SRGAN (Ledig et al. 2017, section 2.1.2 and figure 4), for super-resolution."""

from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Translator

FACTORS = (2, 4, 8)


class SRResNet(Translator):
    """Small image -> 9x9 -> residual blocks and their input -> doubled by pixel shuffle (Shi et al. 2016), 9x9 -> image.

    There is no tanh. With one, training by the L1 distance made mostly dark images black everywhere, and a tanh at -1 has no
    gradient to leave it. In training, images may leave [-1, 1] a little; in eval mode they are clipped.

    The factor is 2, 4 or 8: the sides of an image divided by those of its source. Sources may have any size.

    Args:
        image_shape: (C, H, W) of the images.
        source_shape: (C', H / factor, W / factor) of their sources.
        width: channels of every map.
        blocks: residual blocks, 16 in the paper.
        batch_norm: batch norm in the blocks, as in the paper.

    Raises:
        InputError: a number is out of range, or the factor is another one.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        source_shape: tuple[int, int, int],
        width: int = 64,
        blocks: int = 16,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(image_shape, source_shape)
        if self.factor not in FACTORS:
            raise InputError(
                f"images are {self.factor} times as large as their sources, but SRResNet enlarges by 2, 4 or 8: use data with "
                "one of these factors"
            )
        if width < 1 or blocks < 1:
            raise InputError(f"width is {width} and blocks is {blocks}: use at least 1 for both")
        doublings = FACTORS.index(self.factor) + 1
        self.stem = nn.Sequential(nn.Conv2d(source_shape[0], width, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(ResidualBlock(width, batch_norm) for _ in range(blocks)), *_convolution(width, batch_norm))
        self.to_image = nn.Sequential(
            *(layer for _ in range(doublings) for layer in _doubling(width)),
            nn.Conv2d(width, image_shape[0], 9, padding=4),
        )

    def forward(self, source: Tensor) -> Tensor:
        x = self.stem(source)
        images: Tensor = self.to_image(x + self.trunk(x))  # (B, C, factor * H', factor * W')
        return images if self.training else images.clamp(-1, 1)


class ResidualBlock(nn.Module):
    """3x3, norm, PReLU, 3x3, norm, and the input."""

    def __init__(self, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_convolution(channels, batch_norm), nn.PReLU(), *_convolution(channels, batch_norm))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        result: Tensor = x + self.layers(x)
        return result


def _convolution(channels: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm)
    return [convolution, nn.BatchNorm2d(channels)] if batch_norm else [convolution]


def _doubling(channels: int) -> list[nn.Module]:
    """Make the layers that double the sides of a map: four times the channels become 2x2 pixels."""
    return [nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
