"""Latents and labels of generated images, each a function of the image's global index alone.

So image number i is the same in a batch of 16 or of 512, in one process or in eight, and drawing it leaves every other
random number where it was.
"""

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from gan_lightning.errors import InputError

GOLDEN_RATIO = (5**0.5 - 1) / 2


def latents(indices: Tensor, dim: int, seed: int) -> Tensor:
    """Standard normal latents float32 (B, dim) on the CPU for global indices int64 (B,).

    Each row comes from a counter-based generator (Philox; Salmon et al. 2011) of its own: the seed is its key, the index a
    high word of its counter, so that no two rows overlap.
    """
    rows = [
        numpy.random.Generator(numpy.random.Philox(key=seed, counter=[0, 0, index, 0])).standard_normal(dim, numpy.float32)
        for index in indices.tolist()
    ]
    return torch.from_numpy(numpy.stack(rows)) if rows else torch.empty(0, dim)


def truncated(z: Tensor, threshold: float) -> Tensor:
    """Latents of a normal distribution truncated to [-threshold, threshold], for standard normal ones (any shape).

    The truncation trick (Brock et al. 2019, section 3.1): the smaller the threshold, the more typical the images, and the
    less they differ. The paper draws a value anew until it lies inside; here each value is moved to the same quantile of the
    truncated distribution, which is the same distribution, so that an image changes steadily with the threshold.

    Raises:
        InputError: the threshold is not above 0.
    """
    if not threshold > 0:
        raise InputError(f"truncation is {threshold}: give a number above 0, such as 0.7, beyond which no latent shall lie")
    tail = torch.erfc(torch.tensor(threshold * 0.5**0.5, dtype=torch.float64, device=z.device)) / 2
    quantiles = tail + torch.erfc(z.double().abs() * 0.5**0.5) / 2 * (1 - 2 * tail)  # of -|z|: near 0 float64 is finest
    moved: Tensor = torch.special.ndtri(quantiles).clamp(min=-threshold).copysign(z).to(z.dtype)
    return moved


def spherical(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Latents float32 (N, dim) on the great circle from ``start`` to ``end``, both (dim,), at weights (N,) from 0 to 1.

    A straight line between two draws of a high-dimensional normal passes through lengths that no draw has (White 2016);
    here direction and length go from the one to the other, each at a constant rate (Shoemake 1985).
    """
    start, end, weights = start.double(), end.double(), weights.double().unsqueeze(1)  # so that the ends come out exact
    a, b = start / start.norm(), end / end.norm()
    angle = torch.atan2((a - b).norm(), (a + b).norm()) * 2  # exact for small angles, unlike acos
    if angle < 1e-6 or torch.pi - angle < 1e-6:  # alike, or opposite, between which every great circle leads: a straight line
        return torch.lerp(start, end, weights).float()
    lengths = torch.lerp(start.norm(), end.norm(), weights)  # (N, 1)
    directions = (((1 - weights) * angle).sin() * a + (weights * angle).sin() * b) / angle.sin()
    walked: Tensor = (lengths * directions).float()
    return walked


def class_frequencies(counts: Sequence[int] | None, num_classes: int) -> Tensor:
    """How often to draw each class, (num_classes,), from how many real images each has; all alike where that is not known."""
    if counts is None:
        return torch.ones(num_classes)
    return torch.tensor([*counts, *[0] * num_classes][:num_classes])


def class_labels(indices: Tensor, frequencies: Tensor) -> Tensor:
    """Labels int64 (B,) for global indices int64 (B,), so that the first N have the classes in proportion, for every N.

    Args:
        indices: of the images.
        frequencies: (num_classes,), how often each class occurs in the data; any positive scale.
    """
    fractions = (indices.double() + 0.5) * GOLDEN_RATIO % 1.0  # evenly spread over [0, 1), whatever N
    shares = frequencies.double().cumsum(0) / frequencies.sum()
    return torch.searchsorted(shares, fractions, right=True).clamp(max=len(frequencies) - 1)
