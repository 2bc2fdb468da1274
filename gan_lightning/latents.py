"""Latents and labels of generated images, each a function of the image's global index alone.

So image number i is the same in a batch of 16 or of 512, in one process or in eight, and drawing it leaves every other
random number where it was.
"""

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

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
