"""Measures of a training's health from a few images, and their symptoms and remedies.

The measures are computed in float64 on the device of their arguments, and wait for nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from gan_lightning.losses import NonSaturatingLoss

PART = 64  # images converted at once: 2,048 of 512 pixels have 6 GB as floats
DIMENSIONS = 2**16  # dimensions of vectors in float64 at once: 128 images of 512 pixels have 0.8 GB
Values = Mapping[str, float]
"""Measured values by name. A value that could not be measured is missing."""


def spread(values: Tensor, groups: Tensor | None = None) -> Tensor:
    """Root mean square distance, float64 (), of vectors from their mean, or from the mean of their group.

    Args:
        values: (N, ...), N vectors of any shape.
        groups: int64 (N,), such as labels; None is one group.
    """
    together = None if groups is None else (groups.unsqueeze(1) == groups).double()  # (N, N)
    squares = [_squares(part.double(), together) for part in torch.split(values.flatten(1), DIMENSIONS, dim=1)]
    return torch.stack(squares).sum(0).mean().sqrt()


def _squares(vectors: Tensor, together: Tensor | None) -> Tensor:
    """Squared distance (N,) of vectors (N, D) from their mean, or from that of each vector's group: one row in (N, N)."""
    means = vectors.mean(0) if together is None else together @ vectors / together.sum(1, keepdim=True)
    return (vectors - means).square().sum(1)


def overfitting(train_logits: Tensor, held_out_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Degree to which a discriminator takes held-out real images for generated ones, from any number of logits of each kind.

    This is r_v of Karras et al. 2020 (ADA), equation 1, float64 (): 0 if the discriminator rates held-out images like training
    images, 1 if like generated ones. It is also 0 if the discriminator cannot tell generated images from training images: if
    their mean logits differ by at most three standard errors, the quotient would be noise.
    """
    train, held_out, fake = train_logits.double(), held_out_logits.double(), fake_logits.double()
    gap = train.mean() - fake.mean()
    standard_error = (train.var(correction=0) / len(train) + fake.var(correction=0) / len(fake)).sqrt()
    position = ((train.mean() - held_out.mean()) / gap).clamp(-1, 2)
    return torch.where(gap <= 3 * standard_error, 0.0, position)


def separation(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Standard deviations between the logits of real and of generated images, float64 (). Independent of the logits' scale."""
    real, fake = real_logits.double(), fake_logits.double()
    deviation = ((real.var() + fake.var()) / 2).sqrt()
    return (real.mean() - fake.mean()) / deviation.clamp(min=1e-12)


def saturation(images: Tensor, real: Tensor) -> Tensor:
    """Share of the grey in real images that is black or white in generated ones, float64 (): 0 is none, 1 is all.

    A value counts as black or white if it is within half a grey level of -1 or 1, or beyond. If real images have no grey, the
    share is 0.

    Args:
        images: in [-1, 1], of any shape.
        real: likewise.
    """
    share, usual = ((values.abs() >= 1 - 1 / 255).double().mean() for values in (images, real))
    return torch.where(usual < 1, ((share - usual) / (1 - usual)).clamp(min=0), 0.0)


def gradient_ratio(gradients: Tensor, others: Tensor) -> Tensor:
    """Norm of gradients divided by that of others, float64 (): 0 if the first are 0, NaN if the others are.

    Args:
        gradients: (N, ...), of a loss with respect to N images.
        others: (N, ...), of another loss with respect to the same images.
    """
    norm, other = (values.double().norm() for values in (gradients, others))
    return torch.where(other > 0, norm / other, float("nan"))


def coarse(images: Tensor) -> Tensor:
    """Reduce images (N, C, H, W) to float vectors (N, D) of at most 16x16 pixels, to search for copies."""
    height, width = images.shape[2:]
    size = min(height, 16), min(width, 16)
    return torch.cat([adaptive_avg_pool2d(part.float(), size) for part in torch.split(images, PART)]).flatten(1)


@dataclass(frozen=True)
class Remedy:
    """A change of a setting that may help against a symptom.

    Attributes:
        text: the flag, or a description.
        is_taken: function that returns True for a model (such as ``GAN``) that has it already, or cannot have it.
    """

    text: str
    is_taken: Callable[[Any], bool] = lambda model: False


PENALTY = Remedy("--model.penalty R1", lambda model: not hasattr(model, "penalties") or len(model.penalties) > 0)
AUGMENTATION = Remedy(
    "--model.augmentation DiffAugment", lambda model: not hasattr(model, "augmentation") or model.augmentation is not None
)
NON_SATURATING = Remedy("--model.loss NonSaturatingLoss", lambda model: isinstance(model.loss, NonSaturatingLoss))
BATCH_NORM = Remedy(
    "batch norm in the generator",
    lambda model: any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.generator.modules()),
)
LESS_L1 = Remedy("a smaller --model.l1_weight", lambda model: not getattr(model, "l1_weight", 0))
MORE_L1 = Remedy("a larger --model.l1_weight", lambda model: not hasattr(model, "l1_weight"))
LESS_CYCLE = Remedy("a smaller --model.cycle_weight", lambda model: not getattr(model, "cycle_weight", 0))
MORE_CYCLE = Remedy("a larger --model.cycle_weight", lambda model: not hasattr(model, "cycle_weight"))
MORE_ADVERSARIAL = Remedy("a larger --model.adversarial_weight")
SLOWER_GENERATOR = Remedy("a smaller --model.generator_optimizer.lr")
SLOWER_DISCRIMINATOR = Remedy("a smaller --model.discriminator_optimizer.lr")
MORE_IMAGES = Remedy("more images")


@dataclass(frozen=True)
class Symptom:
    """A failure of training, as measured values show it.

    Attributes:
        name: name of the symptom.
        needs: names of the values that it depends on.
        bad: function that returns True if the values show the symptom.
        text: function that describes the values in a message.
        remedies: changes that may help, the most promising first. At least one of them is never taken already.
    """

    name: str
    needs: tuple[str, ...]
    bad: Callable[[Values], bool]
    text: Callable[[Values], str]
    remedies: tuple[Remedy, ...]

    def is_present(self, values: Values) -> bool:
        """Tell if measured values show the symptom. False if a value that it needs is missing."""
        return all(name in values for name in self.needs) and self.bad(values)


MODE_COLLAPSE = Symptom(
    "mode collapse",
    ("pixel_diversity", "feature_diversity"),
    # a discriminator that has memorised few images spreads them far apart in its features, so these alone are no sign
    lambda v: v["pixel_diversity"] < (0.5 if v["feature_diversity"] < 0.2 else 0.2) or v.get("classes", 1.0) <= 0.3,
    lambda v: (
        f"mode collapse: samples have {v['pixel_diversity']:.0%} of the diversity of real images in pixels and "
        f"{v['feature_diversity']:.0%} in the discriminator's features"
        + (f", and cover {v['classes']:.0%} of the classes" if "classes" in v else "")
    ),
    (BATCH_NORM, PENALTY, SLOWER_GENERATOR),
)
OVERFITTING = Symptom(
    "overfitting of the discriminator",
    ("overfitting",),
    lambda v: v["overfitting"] > 0.9,
    lambda v: (
        "the discriminator has memorised the training images: it takes held-out images for generated ones (overfitting "
        f"{v['overfitting']:.2f} of 1)"
    ),
    (AUGMENTATION, MORE_IMAGES, Remedy("a smaller discriminator")),
)
MEMORISING = Symptom(
    "memorising",
    ("nearest_training", "pixel_diversity"),
    lambda v: v["nearest_training"] < 0.5 and v["pixel_diversity"] > 0.5,  # one grey image is near to all, but no copy
    lambda v: (
        f"samples are copies: their distance from training images is {v['nearest_training']:.2f} times that of held-out images"
    ),
    (AUGMENTATION, MORE_IMAGES),
)
STRONG_DISCRIMINATOR = Symptom(
    "too strong discriminator",
    ("real_logits", "fake_logits", "separation"),
    lambda v: v["real_logits"] - v["fake_logits"] > 30 and v["separation"] > 4,
    lambda v: (
        f"the discriminator is too strong: it is certain of every image (logits of {v['real_logits']:.3g} for real ones, "
        f"{v['fake_logits']:.3g} for generated ones), and the generator learns nothing from it"
    ),
    (PENALTY, SLOWER_DISCRIMINATOR),
)
SATURATION = Symptom(
    "saturation",
    ("saturation",),
    lambda v: v["saturation"] > 0.8,
    lambda v: f"the generator is saturated: {v['saturation']:.0%} of the grey values are black or white in the samples",
    (SLOWER_GENERATOR,),
)
VANISHED_GRADIENT = Symptom(
    "vanished gradient",
    ("generator_gradient_norm",),
    lambda v: v["generator_gradient_norm"] < 1e-6,
    lambda v: f"the generator's gradient has vanished (norm {v['generator_gradient_norm']:.1e}): it no longer learns",
    (NON_SATURATING, PENALTY, SLOWER_DISCRIMINATOR),
)
IGNORED_SOURCE = Symptom(
    "ignored source",
    ("source_diversity",),
    lambda v: v["source_diversity"] < 0.1,
    lambda v: (
        "the generator ignores its source: images of different sources have "
        f"{v['source_diversity']:.0%} of the diversity of targets"
    ),
    (MORE_L1, MORE_CYCLE, SLOWER_GENERATOR),
)
IGNORED_DISCRIMINATOR = Symptom(
    "ignored discriminator",
    ("adversarial_share",),
    lambda v: v["adversarial_share"] < 0.01,
    lambda v: (
        "the generator ignores the discriminator, and would learn the same without it: the adversarial loss has "
        f"{v['adversarial_share']:.1%} of the gradient of the other losses at the images"
    ),
    (LESS_L1, LESS_CYCLE, MORE_ADVERSARIAL),
)

SYMPTOMS = (MODE_COLLAPSE, OVERFITTING, MEMORISING, STRONG_DISCRIMINATOR, SATURATION, VANISHED_GRADIENT)
"""Failures of a generator of samples."""
SYMPTOMS_OF_TRANSLATION = (
    *(IGNORED_SOURCE, IGNORED_DISCRIMINATOR),
    *(OVERFITTING, STRONG_DISCRIMINATOR, SATURATION, VANISHED_GRADIENT),
)
"""Failures of a generator of images from sources."""
