"""What can be read off a few images about how a training goes, and what it means, in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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


def saturation(images: Tensor) -> float:
    """The share of values, 0 to 1, that lie within half a grey level of black or white, or beyond, of images in [-1, 1]."""
    return float((images.abs() >= 1 - 1 / 255).double().mean())


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
        lambda v: v["overfitting"] > 0.8,
        lambda v: (
            f"the discriminator takes held-out images for generated ones (overfitting {v['overfitting']:.2f} of 1): it knows "
            "the training images by heart"
        ),
        "give it more images, --model.augmentation DiffAugment, or a smaller discriminator",
    ),
    Symptom(
        "too strong discriminator",
        ("separation",),
        lambda v: v["separation"] > 20,
        lambda v: (
            f"the discriminator tells generated from real images without effort ({v['separation']:.0f} standard deviations lie "
            "between them), and the generator learns nothing from it"
        ),
        "try --model.penalty R1, or a smaller --model.discriminator_optimizer.lr",
    ),
    Symptom(
        "saturation",
        ("saturation",),
        lambda v: v["saturation"] > 0.5,
        lambda v: (
            f"samples have {v['saturation']:.0%} more black and white pixels than real images: the generator is saturated"
        ),
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
