"""The generator of CycleGAN (Zhu et al. 2017, appendix 7.2; Johnson et al. 2016): residual blocks at a quarter of the size."""

from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Translator
from gan_lightning.networks.layers import ImageNorm, image_norm, initialise_normal


class ResNetTranslator(Translator):
    """Source -> 7x7, halved twice -> residual blocks -> doubled twice, 7x7 -> image, tanh.

    The authors' norm has no trained scale and shift, and cancels the bias of their convolutions. Here the norm has both, and
    the convolutions have no bias: 11.38 million parameters with 9 blocks, like theirs.

    Args:
        image_shape: (C, H, W) of the images, sides of at least 5 pixels.
        source_shape: (C', H, W) of their sources.
        width: channels at full size, doubled at each halving.
        blocks: residual blocks; null is the paper's 6 up to 128 pixels and 9 above.
        norm: ``instance`` or ``batch``.

    Raises:
        InputError: a number is out of range, or images and sources differ in size.
    """

    multiple = 4
    least = 5  # reflection needs two pixels at a quarter of the size

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        source_shape: tuple[int, int, int],
        width: int = 64,
        blocks: int | None = None,
        norm: ImageNorm = "instance",
    ) -> None:
        super().__init__(image_shape, source_shape)
        self.require_same_size()
        size = image_shape[1:]
        if min(size) < self.least:
            raise InputError(
                f"images are {size[0]}x{size[1]}, but ResNetTranslator needs sides of at least {self.least} pixels: use larger "
                "images"
            )
        count = (6 if max(size) <= 128 else 9) if blocks is None else blocks
        if width < 1 or count < 1:
            raise InputError(f"width is {width} and blocks is {count}: use at least 1 for both")
        halved = [(side + 1) // 2 for side in size]
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(source_shape[0], width, 7, bias=False),
            *_normed(width, norm),
            *_halve(width, norm),
            *_halve(2 * width, norm),
            *(ResidualBlock(4 * width, norm) for _ in range(count)),
            *_double(4 * width, halved, norm),
            *_double(2 * width, size, norm),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, image_shape[0], 7),
            nn.Tanh(),
        )
        initialise_normal(self)

    def forward(self, source: Tensor) -> Tensor:
        images: Tensor = self.layers(source)  # (B, C, H, W)
        return images


class ResidualBlock(nn.Module):
    """3x3, norm, ReLU, 3x3, norm, and the input. Edges are mirrored."""

    def __init__(self, channels: int, norm: ImageNorm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False),
            *_normed(channels, norm),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False),
            image_norm(channels, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        result: Tensor = x + self.layers(x)
        return result


def _normed(channels: int, norm: ImageNorm) -> list[nn.Module]:
    return [image_norm(channels, norm), nn.ReLU()]


def _halve(channels: int, norm: ImageNorm) -> list[nn.Module]:
    """Make the layers that halve a map, rounded up, and double its channels."""
    return [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False), *_normed(2 * channels, norm)]


def _double(channels: int, size: list[int] | tuple[int, ...], norm: ImageNorm) -> list[nn.Module]:
    """Make the layers that double a map to sides of the parity of ``size``, and halve its channels."""
    even = [1 - side % 2 for side in size]
    convolution = nn.ConvTranspose2d(
        channels, channels // 2, 3, stride=2, padding=1, output_padding=(even[0], even[1]), bias=False
    )
    return [convolution, *_normed(channels // 2, norm)]
