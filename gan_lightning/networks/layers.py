"""Blocks that several families share: how labels come in, and what ends a discriminator."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import spectral_norm

from gan_lightning.errors import InputError

GeneratorConditioning = Literal["concatenation", "batch_norm"]
DiscriminatorConditioning = Literal["concatenation", "projection", "classifier"]
Wrap = Callable[[nn.Module], nn.Module]
"""Makes of a layer with weights the layer that is used."""


def as_is(layer: nn.Module) -> nn.Module:
    """The layer."""
    return layer


def spectrally_normalized(layer: nn.Module) -> nn.Module:
    """The layer with its weight divided by its largest singular value (Miyato et al. 2018), one power iteration a pass."""
    return spectral_norm(layer)


# How labels come into a generator


class LabelEmbedding(nn.Module):
    """Concatenates an embedding of the labels to features: the conditioning of Mirza and Osindero 2014.

    Args:
        num_classes: how many classes there are.
        dim: the dimension of the embedding; it is at most ``num_classes``, beyond which it adds nothing. As wide as z, it made
            generators on MNIST draw one picture a class, whatever z.
    """

    def __init__(self, num_classes: int, dim: int = 64) -> None:
        super().__init__()
        self.dim = min(dim, num_classes)
        self.embedding = nn.Embedding(num_classes, self.dim)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Features (B, F) and labels (B,) to (B, F + dim).

        Raises:
            ValueError: a conditional network was called without labels.
        """
        return torch.cat([features, self.embedding(_given(labels))], dim=1)


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift belong to the class (de Vries et al. 2017; Dumoulin et al. 2017).

    Args:
        norm: a batch norm without scale and shift of its own.
        num_classes: how many classes there are.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, num_classes: int) -> None:
        super().__init__()
        self.norm = norm
        self.scale = nn.Embedding(num_classes, norm.num_features)
        self.shift = nn.Embedding(num_classes, norm.num_features)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Features (B, C) or (B, C, H, W) and labels (B,) to features of the same shape."""
        shape = *features.shape[:2], *[1] * (features.dim() - 2)
        scale, shift = self.scale(_given(labels)).view(shape), self.shift(labels).view(shape)
        return torch.addcmul(shift, self.norm(features), scale)


class LabelledSequential(nn.Sequential):
    """A sequence of layers, of which those that look at labels are given them."""

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        for layer in self:
            features = layer(features, labels) if isinstance(layer, ConditionalBatchNorm) else layer(features)
        return features


def batch_norm(channels: int, dims: Literal[1, 2], num_classes: int, conditioning: str | None) -> nn.Module:
    """Batch norm of (B, C) or (B, C, H, W), for ``dims`` 1 or 2, conditional where the conditioning is by batch norm."""
    make: type[nn.BatchNorm1d] | type[nn.BatchNorm2d] = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
    if conditioning == "batch_norm":
        return ConditionalBatchNorm(make(channels, affine=False), num_classes)
    return make(channels)


# What ends a discriminator


class LogitHead(nn.Module):
    """The last features of a discriminator to logits: one linear layer, without a look at labels.

    Args:
        features: the dimension of the features.
        num_classes: how many classes there are.
        wrap: applied to each layer with weights, such as :func:`spectrally_normalized`.
    """

    def __init__(self, features: int, num_classes: int = 0, wrap: Wrap = as_is) -> None:
        super().__init__()
        self.layers = nn.Sequential(wrap(nn.Linear(features, 1)))

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Features (B, F) and labels (B,) to logits (B,)."""
        logits: Tensor = self.layers(features).squeeze(1)
        return logits


class ConcatenationHead(LogitHead):
    """The label is concatenated to the features, and a hidden layer follows (Mirza and Osindero 2014, section 4.1).

    A linear layer alone would add a term of the label to one of the image, and could not tell whether the two belong
    together. A linear layer on features next to a one-hot label is a linear layer on the features plus a vector of the label,
    and so it is written here. The vectors begin as normal(0, 1), and :func:`initialise_he` makes the term of the image as large
    if the mean square of the features is near 1. Labels and images then move the logits about equally at first. The features
    of an MLP with torch's own initialisation are some fifty times smaller, and there the label weighs more at first.
    """

    def __init__(self, features: int, num_classes: int, wrap: Wrap = as_is, hidden: int = 256) -> None:
        super().__init__(hidden, num_classes, wrap)
        self.hidden = wrap(nn.Linear(features, hidden))
        self.label_embedding = nn.Embedding(num_classes, hidden)  # not wrapped: it is no layer between image and logit

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        joint = self.hidden(features) + self.label_embedding(_given(labels))
        return super().forward(leaky_relu(joint, 0.2))


class ProjectionHead(LogitHead):
    """A linear layer plus the inner product of features and an embedding of the label (Miyato and Koyama 2018, equation 4)."""

    def __init__(self, features: int, num_classes: int, wrap: Wrap = as_is) -> None:
        super().__init__(features, num_classes, wrap)
        embedding = nn.Embedding(num_classes, features)
        nn.init.normal_(embedding.weight, 0.0, features**-0.5)  # logits of the size that a linear layer's have
        self.embedding = wrap(embedding)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        inner: Tensor = (self.embedding(_given(labels)) * features).sum(dim=1)
        return super().forward(features) + inner


class ClassifierHead(LogitHead):
    """Logits that do not depend on the label, and class logits beside them (AC-GAN, Odena et al. 2017)."""

    def __init__(self, features: int, num_classes: int, wrap: Wrap = as_is) -> None:
        super().__init__(features, num_classes, wrap)
        self.classes = wrap(nn.Linear(features, num_classes))

    def classify(self, features: Tensor) -> Tensor:
        """Features (B, F) to class logits (B, num_classes)."""
        logits: Tensor = self.classes(features)
        return logits


HEADS: dict[DiscriminatorConditioning | None, type[LogitHead]] = {
    None: LogitHead,
    "concatenation": ConcatenationHead,
    "projection": ProjectionHead,
    "classifier": ClassifierHead,
}
"""How a discriminator takes labels in -> what ends it."""


# The rest


def initialise_he(network: nn.Module, negative_slope: float) -> None:
    """Draw the weights of convolutions and dense layers from normal(0, 2 / ((1 + slope^2) fan_in)), and set biases to 0.

    Layers with LeakyReLU of this slope then keep the mean square of their features (He et al. 2015, equation 15).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, negative_slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _given(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ValueError("a conditional network needs labels, and got None")
    return labels


def dropout(probability: float) -> nn.Dropout:
    """Dropout with a probability in [0, 1).

    Raises:
        InputError: it lies elsewhere.
    """
    if not 0.0 <= probability < 1.0:
        raise InputError(f"dropout is {probability}: give a probability from 0 to below 1")
    return nn.Dropout(probability)
