"""Layers that several families share: conditioning on labels, heads of discriminators, initialisation and dropout."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear
from torch.nn.utils.parametrizations import spectral_norm

from gan_lightning.errors import InputError
from gan_lightning.training.randomness import draw

GeneratorConditioning = Literal["concatenation", "batch_norm"]
DiscriminatorConditioning = Literal["concatenation", "projection", "classifier"]
Wrap = Callable[[nn.Module], nn.Module]
"""Function that wraps a layer with weights before it is used."""


def as_is(layer: nn.Module) -> nn.Module:
    """Return the layer unchanged."""
    return layer


def spectrally_normalized(layer: nn.Module) -> nn.Module:
    """Divide a layer's weight by its largest singular value (Miyato et al. 2018), with one power iteration per pass."""
    return spectral_norm(layer)


# Vectors of labels


class AttributeEmbedding(nn.Module):
    """A linear layer from attributes (B, K) to vectors (B, F): for one-hot attributes, an embedding of classes plus a bias.

    Its weight (K, F) has the layout of ``nn.Embedding``: a row for each attribute.
    """

    def __init__(self, condition_dim: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(condition_dim, features))
        self.bias = nn.Parameter(torch.empty(features))
        initialise_embedding(self, std=1.0)

    def forward(self, attributes: Tensor) -> Tensor:
        return linear(attributes, self.weight.T, self.bias)


def embedding(num_classes: int, condition_dim: int, features: int) -> nn.Embedding | AttributeEmbedding:
    """Make the layer from labels to vectors (B, features), normal(0, 1) at first.

    Args:
        num_classes: number of classes, of labels int64 (B,).
        condition_dim: number of attributes, of labels float32 (B, condition_dim); 0 if the labels are classes.
        features: dimension of the vectors.
    """
    return AttributeEmbedding(condition_dim, features) if condition_dim else nn.Embedding(num_classes, features)


def initialise_embedding(layer: nn.Module, mean: float = 0.0, std: float = 0.0) -> None:
    """Draw the vectors of classes from normal(mean, std^2), or those of attributes whose mean square is 1."""
    weight, bias = layer.weight, getattr(layer, "bias", None)
    assert isinstance(weight, Tensor)
    if isinstance(bias, Tensor):
        nn.init.constant_(bias, mean)
        mean, std = 0.0, std * len(weight) ** -0.5
    if std:
        nn.init.normal_(weight, mean, std)
    else:
        nn.init.constant_(weight, mean)


# Conditioning of generators


class LabelEmbedding(nn.Module):
    """Concatenates an embedding of the labels to features: the conditioning of Mirza and Osindero 2014.

    Args:
        num_classes: number of classes.
        dim: dimension of the embedding, capped at the number of classes or attributes, because more adds nothing. With an
            embedding as wide as z, generators on MNIST drew one picture per class for every z.
        condition_dim: number of attributes; 0 if the labels are classes.
    """

    def __init__(self, num_classes: int, dim: int = 64, condition_dim: int = 0) -> None:
        super().__init__()
        self.dim = min(dim, condition_dim or num_classes)
        self.embedding = embedding(num_classes, condition_dim, self.dim)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Map features (B, F) and labels (B,) or (B, condition_dim) to (B, F + dim).

        Raises:
            ValueError: a conditional network was called without labels.
        """
        return torch.cat([features, self.embedding(_require_labels(labels))], dim=1)


class ConditionalBatchNorm(nn.Module):
    """Batch norm with a scale and a shift for each class (de Vries et al. 2017; Dumoulin et al. 2017).

    With attributes, both are linear functions of them.

    Args:
        norm: a batch norm without its own scale and shift.
        num_classes: number of classes.
        condition_dim: number of attributes; 0 if the labels are classes.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, num_classes: int, condition_dim: int = 0) -> None:
        super().__init__()
        self.norm = norm
        self.scale = embedding(num_classes, condition_dim, norm.num_features)
        self.shift = embedding(num_classes, condition_dim, norm.num_features)
        initialise_embedding(self.scale, 1.0)
        initialise_embedding(self.shift, 0.0)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Map features (B, C) or (B, C, H, W) and labels (B,) or (B, condition_dim) to features of the same shape."""
        shape = *features.shape[:2], *[1] * (features.dim() - 2)
        scale, shift = self.scale(_require_labels(labels)).view(shape), self.shift(labels).view(shape)
        return torch.addcmul(shift, self.norm(features), scale)


class LabelledSequential(nn.Sequential):
    """A sequence of layers that passes the labels to the layers that use them."""

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        for layer in self:
            features = layer(features, labels) if isinstance(layer, ConditionalBatchNorm) else layer(features)
        return features


def batch_norm(
    channels: int, dims: Literal[1, 2], num_classes: int, conditioning: str | None, condition_dim: int = 0
) -> nn.Module:
    """Make batch norm for (B, C) or (B, C, H, W), for ``dims`` 1 or 2. Conditional if ``conditioning`` is ``batch_norm``."""
    make: type[nn.BatchNorm1d] | type[nn.BatchNorm2d] = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
    if conditioning == "batch_norm":
        return ConditionalBatchNorm(make(channels, affine=False), num_classes, condition_dim)
    return make(channels)


ImageNorm = Literal["instance", "batch"]


def image_norm(channels: int, kind: ImageNorm) -> nn.Module:
    """Make a norm of features (B, C, H, W) with a trained scale and shift.

    ``instance`` norm (Ulyanov et al. 2016) takes the moments of each image alone, like batch norm of batches of one image, but
    in eval mode, too. ``batch`` norm uses the running moments there.

    Raises:
        InputError: there is no such norm.
    """
    if kind not in ("instance", "batch"):
        raise InputError(f"norm is {kind!r}: use instance or batch")
    return nn.InstanceNorm2d(channels, affine=True) if kind == "instance" else nn.BatchNorm2d(channels)


# Heads of discriminators


class LogitHead(nn.Module):
    """One linear layer from the last features of a discriminator to logits. Ignores the labels.

    Args:
        features: dimension of the features.
        num_classes: number of classes.
        wrap: function applied to each layer with weights, such as :func:`spectrally_normalized`.
        condition_dim: number of attributes; 0 if the labels are classes.
    """

    def __init__(self, features: int, num_classes: int = 0, wrap: Wrap = as_is, condition_dim: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(wrap(nn.Linear(features, 1)))

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map features (B, F) and labels (B,) or (B, condition_dim) to logits (B,)."""
        logits: Tensor = self.layers(features).squeeze(1)
        return logits


class ConcatenationHead(LogitHead):
    """Concatenation of the label to the features, followed by a hidden layer (Mirza and Osindero 2014, section 4.1).

    A linear layer alone would add a term of the label to a term of the image, and could not decide if the two belong together.
    A linear layer on features next to a one-hot label equals a linear layer on the features plus a vector for each label. This
    is the form used here.

    The vectors start as normal(0, 1). :func:`initialise_he` makes the term of the image as large if the mean square of the
    features is near 1. Labels and images then move the logits about equally at first. The features of an MLP with torch's
    default initialisation are some fifty times smaller, so there the label weighs more at first.
    """

    def __init__(self, features: int, num_classes: int, wrap: Wrap = as_is, condition_dim: int = 0, hidden: int = 256) -> None:
        super().__init__(hidden, num_classes, wrap)
        self.hidden = wrap(nn.Linear(features, hidden))
        # not wrapped: not on the path from image to logit
        self.label_embedding = embedding(num_classes, condition_dim, hidden)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        joint = self.hidden(features) + self.label_embedding(_require_labels(labels))
        return super().forward(leaky_relu(joint, 0.2))


class ProjectionHead(LogitHead):
    """A linear layer plus the inner product of features and an embedding of the label (Miyato and Koyama 2018, equation 4)."""

    def __init__(self, features: int, num_classes: int, wrap: Wrap = as_is, condition_dim: int = 0) -> None:
        super().__init__(features, num_classes, wrap)
        layer = embedding(num_classes, condition_dim, features)
        initialise_embedding(layer, std=features**-0.5)  # logits as large as those of a linear layer
        self.embedding = wrap(layer)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        inner: Tensor = (self.embedding(_require_labels(labels)) * features).sum(dim=1)
        return super().forward(features) + inner


class ClassifierHead(LogitHead):
    """Logits that do not depend on the label, and additional class logits (AC-GAN, Odena et al. 2017).

    With attributes, the additional outputs estimate them.
    """

    def __init__(self, features: int, num_classes: int, wrap: Wrap = as_is, condition_dim: int = 0) -> None:
        super().__init__(features, num_classes, wrap)
        self.classes = wrap(nn.Linear(features, condition_dim or num_classes))

    def classify(self, features: Tensor) -> Tensor:
        """Map features (B, F) to class logits (B, num_classes), or attributes (B, condition_dim)."""
        logits: Tensor = self.classes(features)
        return logits


HEADS: dict[DiscriminatorConditioning | None, type[LogitHead]] = {
    None: LogitHead,
    "concatenation": ConcatenationHead,
    "projection": ProjectionHead,
    "classifier": ClassifierHead,
}
"""Conditioning of a discriminator -> its head."""


# Sizes


def halvings(image_shape: tuple[int, int, int], network: str, least: int, most: int | None = None) -> int:
    """Count how often both sides of images are halved until the shorter one has 4 to 7 pixels.

    Args:
        image_shape: (C, H, W).
        network: its name, for the message.
        least: fewest pixels of a side that the network supports.
        most: largest number of halvings that it supports; None sets no limit.

    Raises:
        InputError: a side is too short or too long, or cannot be halved so often.
    """
    _, height, width = image_shape
    shorter = min(height, width)
    count = _count_halvings(shorter)
    if shorter < least or height % 2**count or width % 2**count:
        near = max(least, shorter // 2**count * 2**count)
        raise InputError(
            f"images are {height}x{width}, but {network} needs sides of at least {least} pixels and of a multiple of "
            f"{2**count}: use another size, such as {_nearest_size(height, width, near)}"
        )
    if most is not None and count > most:
        size = 4 * 2**most
        raise InputError(
            f"images are {height}x{width}, but {network} ends below {2 * size} pixels: use another size, such as "
            f"{_nearest_size(height, width, size)}"
        )
    return count


def _count_halvings(side: int) -> int:
    """Count how often a side is halved until it has 4 to 7 pixels."""
    return max(0, (side // 4).bit_length() - 1)


def _nearest_size(height: int, width: int, shorter: int) -> str:
    """Write a size that can be halved, has this ``shorter`` side and nearly the same shape, with its flag."""
    step = 2 ** _count_halvings(shorter)
    longer = round(shorter / min(height, width) * max(height, width) / step) * step
    text = f"{shorter}x{longer}" if height < width else f"{longer}x{shorter}"
    return f"{text} (--data.image_size {text})"


# Initialisation and dropout


def initialise_he(network: nn.Module, negative_slope: float) -> None:
    """Draw the weights of convolutions and dense layers from normal(0, 2 / ((1 + slope^2) fan_in)), and set biases to 0.

    Layers with LeakyReLU of this slope then keep the mean square of their features (He et al. 2015, equation 15).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, negative_slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_normal(network: nn.Module) -> None:
    """Initialise as Radford et al. 2016, section 4: weights from normal(0, 0.02); the norms' scales likewise, around 1."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.InstanceNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, ConditionalBatchNorm):
            initialise_embedding(module.scale, 1.0, 0.02)


def _require_labels(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ValueError("a conditional network needs labels, but got None")
    return labels


class Dropout(nn.Dropout):
    """Dropout whose masks are drawn for the whole batch, so that micro-batches drop what the batch at once would drop.

    Args:
        p: probability of a zero.
        at_test: drop in eval mode, too.
    """

    def __init__(self, p: float, at_test: bool = False) -> None:
        super().__init__(p)
        self.at_test = at_test

    def forward(self, features: Tensor) -> Tensor:
        if not (self.training or self.at_test) or not self.p:
            return features
        kept = draw(self._mask, *features.shape, dtype=features.dtype, device=features.device)
        return features * kept.div_(1 - self.p)

    def _mask(self, *shape: int, **options: Any) -> Tensor:
        return torch.empty(shape, **options).bernoulli_(1 - self.p)


def dropout(probability: float, at_test: bool = False) -> Dropout:
    """Make dropout with a probability in [0, 1), in eval mode, too, if ``at_test``.

    Raises:
        InputError: the probability is out of range.
    """
    if not 0.0 <= probability < 1.0:
        raise InputError(f"dropout is {probability}: use at least 0 and below 1")
    return Dropout(probability, at_test)
