"""What can be read off a few images about how a training goes, and what it means, in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from gan_lightning.losses import NonSaturatingLoss

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
class Remedy:
    """Something that may help.

    Attributes:
        text: the flag, or what it is.
        is_taken: whether a GAN (gan.py) has it already.
    """

    text: str
    is_taken: Callable[[Any], bool] = lambda gan: False


PENALTY = Remedy("--model.penalty R1", lambda gan: len(gan.penalties) > 0)
AUGMENTATION = Remedy("--model.augmentation DiffAugment", lambda gan: gan.augmentation is not None)
NON_SATURATING = Remedy("--model.loss NonSaturatingLoss", lambda gan: isinstance(gan.loss, NonSaturatingLoss))
BATCH_NORM = Remedy(
    "batch norm in the generator",
    lambda gan: any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in gan.generator.modules()),
)
SLOWER_GENERATOR = Remedy("a smaller --model.generator_optimizer.lr")
SLOWER_DISCRIMINATOR = Remedy("a smaller --model.discriminator_optimizer.lr")
MORE_IMAGES = Remedy("more images")


@dataclass(frozen=True)
class Symptom:
    """Something that goes wrong.

    Attributes:
        name: what it is called.
        needs: the values that it looks at.
        bad: whether they show it.
        text: what to say of the values.
        remedies: what may help, the likeliest first; one at least is never taken.
    """

    name: str
    needs: tuple[str, ...]
    bad: Callable[[Values], bool]
    text: Callable[[Values], str]
    remedies: tuple[Remedy, ...]

    def is_there(self, values: Values) -> bool:
        """Whether measured values show it; not where one that it needs is missing."""
        return all(name in values for name in self.needs) and self.bad(values)


SYMPTOMS = (
    Symptom(
        "mode collapse",
        ("pixel_diversity", "feature_diversity"),
        # a discriminator that knows few images by heart spreads those far in its features, so that these alone say nothing
        lambda v: v["pixel_diversity"] < (0.5 if v["feature_diversity"] < 0.2 else 0.2) or v.get("classes", 1.0) <= 0.3,
        lambda v: (
            f"samples have {v['pixel_diversity']:.0%} of the diversity of real images in pixels and "
            f"{v['feature_diversity']:.0%} in the discriminator's features"
            + (f", and are of {v['classes']:.0%} of the classes" if "classes" in v else "")
            + ": mode collapse"
        ),
        (BATCH_NORM, PENALTY, SLOWER_GENERATOR),
    ),
    Symptom(
        "overfitting of the discriminator",
        ("overfitting",),
        lambda v: v["overfitting"] > 0.9,
        lambda v: (
            f"the discriminator takes held-out images for generated ones (overfitting {v['overfitting']:.2f} of 1): it knows "
            "the training images by heart"
        ),
        (AUGMENTATION, MORE_IMAGES, Remedy("a smaller discriminator")),
    ),
    Symptom(
        "memorising",
        ("nearest_training", "pixel_diversity"),
        lambda v: v["nearest_training"] < 0.5 and v["pixel_diversity"] > 0.5,  # one grey image is near to all, and no copy
        lambda v: (
            f"samples lie {v['nearest_training']:.2f} times as far from training images as held-out images do: they are copies"
        ),
        (AUGMENTATION, MORE_IMAGES),
    ),
    Symptom(
        "too strong discriminator",
        ("real_logits", "fake_logits", "separation"),
        lambda v: v["real_logits"] - v["fake_logits"] > 30 and v["separation"] > 4,
        lambda v: (
            f"the discriminator is certain of every image (logits of {v['real_logits']:.3g} for real ones and "
            f"{v['fake_logits']:.3g} for generated ones), and the generator learns nothing from it"
        ),
        (PENALTY, SLOWER_DISCRIMINATOR),
    ),
    Symptom(
        "saturation",
        ("saturation",),
        lambda v: v["saturation"] > 0.8,
        lambda v: f"{v['saturation']:.0%} of what should be grey is black or white in the samples: the generator is saturated",
        (SLOWER_GENERATOR,),
    ),
    Symptom(
        "vanished gradient",
        ("generator_gradient_norm",),
        lambda v: v["generator_gradient_norm"] < 1e-6,
        lambda v: (
            f"the generator's gradient has vanished (norm {v['generator_gradient_norm']:.1e}): it learns nothing any more"
        ),
        (NON_SATURATING, PENALTY, SLOWER_DISCRIMINATOR),
    ),
)
