"""FastGAN's generator (Liu et al. 2021, "Towards faster and stabilized GAN training"): few channels at large sizes."""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from gan_lightning.errors import InputError
from gan_lightning.networks.base import Generator
from gan_lightning.networks.layers import GeneratorConditioning, LabelEmbedding, LabelledSequential, batch_norm, halvings

FACTORS = (16, 8, 4, 2, 2, 1, 1 / 2, 1 / 4)
"""Channels of the map at each scale, in widths, from the smallest map: 4 pixels have 16 widths, 512 have a quarter."""
APART = 4
"""Scales between the two maps of a skip-layer excitation: 4 pixels excite 64, 8 excite 128, and so on."""


class FastGANGenerator(Generator):
    """Latent -> 4x4 -> doubled by nearest pixels, convolution, batch norm and GLU -> 3x3 -> image, tanh.

    From 64 pixels on, each map is multiplied by gates that the map 16 times smaller computes (skip-layer excitation). Every
    second scale has two convolutions. The paper's network also adds noise to the maps. Here an image is a function of its
    latent.

    Args:
        image_shape: (C, H, W), sides of 16 to 1023 pixels that can be halved until the shorter one has 4 to 7.
        num_classes: number of classes of the data.
        latent_dim: dimension of the latent.
        width: channels at 128 pixels; 16 times as many at the smallest map, a quarter at 512 pixels.
        conditioning: ``concatenation`` of an embedding of the label to z, or class-conditional ``batch_norm``.
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: the network does not support the images, or the width is out of range.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 256,
        width: int = 64,
        conditioning: GeneratorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, latent_dim, conditioning, condition_dim)
        if width < 1:
            raise InputError(f"width is {width}: use at least 1")
        doublings = halvings(image_shape, "FastGAN", 16, len(FACTORS) - 1)
        base = (image_shape[1] // 2**doublings, image_shape[2] // 2**doublings)
        channels = [max(1, int(width * factor)) for factor in FACTORS[: doublings + 1]]
        self.label_embedding = (
            LabelEmbedding(num_classes, condition_dim=condition_dim) if conditioning == "concatenation" else None
        )
        inputs = latent_dim + (self.label_embedding.dim if self.label_embedding else 0)
        self.stem = LabelledSequential(
            nn.Linear(inputs, 2 * channels[0] * base[0] * base[1], bias=False),
            nn.Unflatten(1, (2 * channels[0], *base)),
            batch_norm(2 * channels[0], 2, num_classes, conditioning, condition_dim),
            nn.GLU(dim=1),
        )
        self.blocks = nn.ModuleList()
        for scale in range(1, doublings + 1):
            layers: list[nn.Module] = [nn.Upsample(scale_factor=2)]
            for number in range(1 + scale % 2):
                before = channels[scale] if number else channels[scale - 1]
                layers += [
                    nn.Conv2d(before, 2 * channels[scale], 3, padding=1, bias=False),
                    batch_norm(2 * channels[scale], 2, num_classes, conditioning, condition_dim),
                    nn.GLU(dim=1),
                ]
            self.blocks.append(LabelledSequential(*layers))
        pairs = zip(channels, channels[APART:], strict=False)
        self.gates = nn.ModuleList(Gates(small, large, base, 2**scale) for scale, (small, large) in enumerate(pairs))
        self.to_image = nn.Sequential(nn.Conv2d(channels[-1], image_shape[0], 3, padding=1), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.label_embedding is not None:
            z = self.label_embedding(z, labels)
        maps = [self.stem(z, labels)]
        for block in self.blocks:
            x = block(maps[-1], labels)
            if len(maps) >= APART:
                scale = len(maps) - APART
                x = x * self.gates[scale](maps[scale])
            maps.append(x)
        images: Tensor = self.to_image(maps[-1])  # (B, C, H, W)
        return images


class Gates(nn.Module):
    """Skip-layer excitation (Liu et al. 2021, equation 1): a small map decides how much of each channel of a large one passes.

    Args:
        inputs: channels of the small map.
        outputs: channels of the large map.
        base: height and width to which the small map is pooled.
        factor: by which pooling divides its sides.
    """

    def __init__(self, inputs: int, outputs: int, base: tuple[int, int], factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, base), nn.LeakyReLU(0.1), nn.Conv2d(outputs, outputs, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map the small map (B, inputs, H, W) to gates (B, outputs, 1, 1) between 0 and 1."""
        gates: Tensor = self.layers(avg_pool2d(x, self.factor))
        return gates
