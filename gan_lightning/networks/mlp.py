"""Multi-layer perceptrons: the networks of Goodfellow et al. 2014, with the settings that make them train or fail."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from gan_lightning.errors import InputError
from gan_lightning.networks import layers as shared
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.layers import DiscriminatorConditioning, GeneratorConditioning, LabelEmbedding


def _widths(hidden: Sequence[int]) -> list[int]:
    if not hidden or min(hidden) < 1:
        raise InputError(f"hidden is {list(hidden)}: use one or more widths of at least 1, such as [256,512]")
    return list(hidden)


class MLPGenerator(Generator):
    """Latent -> hidden layers -> image, tanh.

    Args:
        image_shape: (C, H, W) of the images, any size.
        num_classes: number of classes of the data.
        latent_dim: dimension of the latent.
        hidden: widths of the hidden layers.
        batch_norm: batch norm after each hidden layer. Without it the MLP recipes that tutorials print collapse.
        negative_slope: slope of LeakyReLU; 0 is ReLU.
        conditioning: ``concatenation`` of an embedding of the label to z, or class-conditional ``batch_norm``.
        condition_dim: number of attributes of the data; 0 if it has none.

    Raises:
        InputError: a width is below 1, or the conditioning is by batch norm without batch norm.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 100,
        hidden: Sequence[int] = (256, 512, 1024),
        batch_norm: bool = True,
        negative_slope: float = 0.2,
        conditioning: GeneratorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, latent_dim, conditioning, condition_dim)
        if conditioning == "batch_norm" and not batch_norm:
            raise InputError("conditioning=batch_norm needs batch norm: set batch_norm=true, or use conditioning=concatenation")
        self.label_embedding = (
            LabelEmbedding(num_classes, condition_dim=condition_dim) if conditioning == "concatenation" else None
        )
        layers: list[nn.Module] = []
        width = latent_dim + (self.label_embedding.dim if self.label_embedding else 0)
        for next_width in _widths(hidden):
            layers.append(nn.Linear(width, next_width, bias=not batch_norm))  # batch norm has its own bias
            if batch_norm:
                layers.append(shared.batch_norm(next_width, 1, num_classes, conditioning, condition_dim))
            layers.append(nn.LeakyReLU(negative_slope, inplace=True))
            width = next_width
        self.layers = shared.LabelledSequential(*layers, nn.Linear(width, math.prod(image_shape)), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.label_embedding is not None:
            z = self.label_embedding(z, labels)
        images: Tensor = self.layers(z, labels).unflatten(1, self.image_shape)  # (B, C, H, W)
        return images


class MLPDiscriminator(Discriminator):
    """Image -> hidden layers -> logit.

    Args:
        image_shape: (C, H, W) of the images, any size.
        num_classes: number of classes of the data.
        hidden: widths of the hidden layers.
        negative_slope: slope of LeakyReLU.
        dropout: probability of dropping a hidden unit, in [0, 1).
        conditioning: head for labels: ``concatenation``, ``projection`` or an auxiliary ``classifier`` (see ``layers.HEADS``).
        condition_dim: number of attributes of the data; 0 if it has none.
    """

    samples_are_independent = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        hidden: Sequence[int] = (1024, 512, 256),
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        conditioning: DiscriminatorConditioning | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning, condition_dim)
        layers: list[nn.Module] = []
        width = math.prod(image_shape)
        for next_width in _widths(hidden):
            layers += [nn.Linear(width, next_width), nn.LeakyReLU(negative_slope, inplace=True), shared.dropout(dropout)]
            width = next_width
        self.layers = nn.Sequential(*layers)
        self.head = shared.HEADS[conditioning](width, num_classes, condition_dim=condition_dim)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images.flatten(1))  # (B, hidden[-1])
        return features
