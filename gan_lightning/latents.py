"""Latents and labels of generated images, each a function of the image's global index alone.

So image number i is the same in a batch of 16 or of 512, and in one process or in eight. Drawing it leaves all other random
numbers unchanged.
"""

from collections.abc import Callable, Sequence

import numpy
import torch
from torch import Tensor

from gan_lightning.errors import InputError

GOLDEN_RATIO = (5**0.5 - 1) / 2


def latents(indices: Tensor, dim: int, seed: int) -> Tensor:
    """Draw standard normal latents float32 (B, dim) on the CPU for global indices int64 (B,).

    Each row has its own stream of a counter-based generator (Philox; Salmon et al. 2011). The seed is the key and the index is
    a high word of the counter, so that no two rows overlap. Setting the counter takes a quarter of the time of a new generator.
    """
    philox = numpy.random.Philox(key=seed)
    random, state = numpy.random.Generator(philox), philox.state
    rows = numpy.empty((len(indices), dim), numpy.float32)
    for row, index in zip(rows, indices.tolist(), strict=True):
        state["state"]["counter"][:] = 0, 0, index, 0
        philox.state = state  # with an empty buffer
        random.standard_normal(out=row, dtype=numpy.float32)
    return torch.from_numpy(rows)


def truncated(z: Tensor, threshold: float) -> Tensor:
    """Map standard normal latents (any shape) to a normal distribution truncated to [-threshold, threshold].

    This is the truncation trick (Brock et al. 2019, section 3.1): the smaller the threshold, the more typical and the less
    diverse the images. The paper draws a value again until it is inside. Here each value moves to the same quantile of the
    truncated distribution. The distribution is the same, and an image changes continuously with the threshold.

    Raises:
        InputError: the threshold is not above 0.
    """
    if not threshold > 0:
        raise InputError(f"truncation is {threshold}: use a number above 0, such as 0.7")
    tail = torch.erfc(torch.tensor(threshold * 0.5**0.5, dtype=torch.float64, device=z.device)) / 2
    quantiles = tail + torch.erfc(z.double().abs() * 0.5**0.5) / 2 * (1 - 2 * tail)  # of -|z|: float64 is finest near 0
    moved: Tensor = torch.special.ndtri(quantiles).clamp(min=-threshold).copysign(z).to(z.dtype)
    return moved


def spherical(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Latents float32 (N, dim) on the great circle from ``start`` to ``end``, both (dim,), at weights (N,) from 0 to 1.

    A straight line between two draws of a high-dimensional normal passes through lengths that no draw has (White 2016). Here
    direction and length each change at a constant rate (Shoemake 1985).
    """
    start, end, weights = start.double(), end.double(), weights.double().unsqueeze(1)  # so that the ends come out exact
    a, b = start / start.norm(), end / end.norm()
    angle = torch.atan2((a - b).norm(), (a + b).norm()) * 2  # exact for small angles, unlike acos
    if angle < 1e-6 or torch.pi - angle < 1e-6:  # equal, or opposite without a unique great circle: a straight line
        return torch.lerp(start, end, weights).float()
    lengths = torch.lerp(start.norm(), end.norm(), weights)  # (N, 1)
    directions = (((1 - weights) * angle).sin() * a + (weights * angle).sin() * b) / angle.sin()
    walked: Tensor = (lengths * directions).float()
    return walked


def class_frequencies(counts: Sequence[int] | None, num_classes: int) -> Tensor:
    """Frequency of each class, (num_classes,), from the real images per class; equal frequencies if ``counts`` is None."""
    if counts is None:
        return torch.ones(num_classes)
    return torch.tensor([*counts, *[0] * num_classes][:num_classes])


def class_labels(indices: Tensor, frequencies: Tensor) -> Tensor:
    """Labels int64 (B,) for global indices int64 (B,). For every N, the first N labels have the classes in proportion.

    Args:
        indices: indices of the images.
        frequencies: frequency of each class in the data, (num_classes,), at any positive scale.
    """
    fractions = (indices.double() + 0.5) * GOLDEN_RATIO % 1.0  # evenly spread over [0, 1), whatever N
    shares = frequencies.double().cumsum(0) / frequencies.sum()
    return torch.searchsorted(shares, fractions, right=True).clamp(max=len(frequencies) - 1)


def labels_by_index(
    class_counts: Sequence[int] | None, num_classes: int, conditions: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """Make the function from global indices int64 (B,) to the labels of samples that stand for the whole of the data.

    Args:
        class_counts: number of images of each class of the data; None draws all classes equally often.
        num_classes: number of classes; 0 with attributes.
        conditions: attributes of training images in random order, float32 (M, K), to take in turn; None with classes.
    """
    if conditions is not None:
        return lambda indices: conditions[indices.cpu() % len(conditions)]
    frequencies = class_frequencies(class_counts, num_classes)
    return lambda indices: class_labels(indices, frequencies)
