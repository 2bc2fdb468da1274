"""What can be read off a few images about how a training goes, and what it means, in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

Values = Mapping[str, float]
"""Measured values by name; one that could not be measured is not there."""


def spread(values: Tensor, groups: Tensor | None = None) -> float:
    """Root mean square distance of vectors from their mean, or from that of their own group.

    Args:
        values: (N, ...), each taken as one vector.
        groups: int64 (N,), such as labels; None is one group.
    """
    flat = values.flatten(1).double()
    if groups is None:
        groups = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    _, groups = torch.unique(groups, return_inverse=True)
    counts = groups.bincount().unsqueeze(1)
    means = torch.zeros(len(counts), flat.shape[1], dtype=flat.dtype, device=flat.device).index_add_(0, groups, flat) / counts
    return float((flat - means[groups]).square().sum(1).mean().sqrt())


def overfitting(train_logits: Tensor, held_out_logits: Tensor, fake_logits: Tensor) -> float:
    """How far a discriminator takes real images that it was not trained on, any number of each, for generated ones.

    r_v of Karras et al. 2020 (ADA), equation 1: 0 where it judges them as those it was trained on, 1 where it judges them as
    generated ones. 0 where it does not tell generated images from those it was trained on.
    """
    gap = train_logits.double().mean() - fake_logits.double().mean()
    if gap <= 0:
        return 0.0
    return float(((train_logits.double().mean() - held_out_logits.double().mean()) / gap).clamp(-1, 2))


def separation(real_logits: Tensor, fake_logits: Tensor) -> float:
    """How many standard deviations lie between the logits of real and of generated images, whatever the scale of the logits."""
    real, fake = real_logits.double(), fake_logits.double()
    deviation = ((real.var() + fake.var()) / 2).sqrt()
    return float((real.mean() - fake.mean()) / deviation.clamp(min=1e-12))


def saturation(images: Tensor, real: Tensor) -> float:
    """How many of the grey values of real images are black or white in generated ones: 0 none, 1 all, so that no grey is left.

    Black and white is what lies within half a grey level of -1 or 1, or beyond.

    Args:
        images: in [-1, 1], of any shape.
        real: likewise.
    """
    share, usual = (float((values.abs() >= 1 - 1 / 255).double().mean()) for values in (images, real))
    return max(0.0, (share - usual) / (1 - usual)) if usual < 1 else 0.0


def coarse(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as vectors (N, D) of at most 16x16 pixels, float, to look for copies by."""
    height, width = images.shape[2:]
    return adaptive_avg_pool2d(images.float(), (min(height, 16), min(width, 16))).flatten(1)


@dataclass(frozen=True)
class Symptom:
    """Something that goes wrong.

    Attributes:
        name: what it is called.
        needs: the values that it looks at.
        bad: whether they show it.
        text: what to say of the values.
        remedy: what helps.
    """

    name: str
    needs: tuple[str, ...]
    bad: Callable[[Values], bool]
    text: Callable[[Values], str]
    remedy: str

    def is_there(self, values: Values) -> bool:
        """Whether measured values show it; not where one that it needs is missing."""
        return all(name in values for name in self.needs) and self.bad(values)


SYMPTOMS = (
    Symptom(
        "mode collapse",
        ("pixel_diversity", "feature_diversity"),
        lambda v: min(v["pixel_diversity"], v["feature_diversity"]) < 0.2 or v.get("classes", 1.0) <= 0.3,
        lambda v: (
            f"samples have {v['pixel_diversity']:.0%} of the diversity of real images in pixels and "
            f"{v['feature_diversity']:.0%} in the discriminator's features"
            + (f", and are of {v['classes']:.0%} of the classes" if "classes" in v else "")
            + ": mode collapse"
        ),
        "try batch norm in the generator, --model.penalty R1, or a smaller learning rate",
    ),
    Symptom(
        "overfitting of the discriminator",
        ("overfitting",),
        lambda v: v["overfitting"] > 0.9,
        lambda v: (
            f"the discriminator takes held-out images for generated ones (overfitting {v['overfitting']:.2f} of 1): it knows "
            "the training images by heart"
        ),
        "give it more images, --model.augmentation DiffAugment, or a smaller discriminator",
    ),
    Symptom(
        "memorising",
        ("nearest_training",),
        lambda v: v["nearest_training"] < 0.5,
        lambda v: (
            f"samples lie {v['nearest_training']:.2f} times as far from training images as held-out images do: they are copies"
        ),
        "give it more images, or --model.augmentation DiffAugment",
    ),
    Symptom(
        "too strong discriminator",
        ("real_logits", "fake_logits", "separation"),
        lambda v: v["real_logits"] - v["fake_logits"] > 30 and v["separation"] > 4,
        lambda v: (
            f"the discriminator is certain of every image (logits of {v['real_logits']:.3g} for real ones and "
            f"{v['fake_logits']:.3g} for generated ones), and the generator learns nothing from it"
        ),
        "try --model.penalty R1, or a smaller --model.discriminator_optimizer.lr",
    ),
    Symptom(
        "saturation",
        ("saturation",),
        lambda v: v["saturation"] > 0.8,
        lambda v: f"{v['saturation']:.0%} of what should be grey is black or white in the samples: the generator is saturated",
        "try a smaller --model.generator_optimizer.lr",
    ),
    Symptom(
        "vanished gradient",
        ("generator_gradient_norm",),
        lambda v: v["generator_gradient_norm"] < 1e-6,
        lambda v: (
            f"the generator's gradient has vanished (norm {v['generator_gradient_norm']:.1e}): it learns nothing any more"
        ),
        "try --model.loss NonSaturatingLoss, --model.penalty R1, or a smaller --model.discriminator_optimizer.lr",
    ),
)
