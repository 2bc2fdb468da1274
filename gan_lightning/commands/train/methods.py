"""The methods of ``--method``: the class of each, its defaults, and what of the data and which callbacks belong to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback

from gan_lightning.callbacks import (
    GenerativeMetrics,
    HealthMonitor,
    ImageGrid,
    TranslationGrid,
    TranslationHealth,
    TranslationMetrics,
)
from gan_lightning.cycle import CycleGAN
from gan_lightning.gan import GAN
from gan_lightning.module import AdversarialModule
from gan_lightning.translation import PairedTranslation


@dataclass(frozen=True)
class Method:
    """A method that can be trained.

    Attributes:
        model: class whose arguments are the flags ``--model.X``.
        recipe: recipe that trains if none is given.
        defaults: setting -> its default.
        shapes: network -> those of its arguments that are attributes of the data.
        callbacks: section of the settings -> callback whose arguments it has. The callbacks run in this order.
        translates: it needs data for translation; others need images alone.
        needs_pairs: each source of a batch must belong to its target.
    """

    model: type[AdversarialModule]
    recipe: str
    defaults: Mapping[str, Any]
    shapes: Mapping[str, tuple[str, ...]]
    callbacks: Mapping[str, type[Callback]]
    translates: bool = True
    needs_pairs: bool = False


TRANSLATORS = {
    "model.generator": "UNetGenerator",
    "model.discriminator": "PatchDiscriminator",
    "data": {"class_path": "Derived", "init_args": {"source": "MNIST", "degradation": "Hole"}},
}
TRANSLATION_CALLBACKS = {"image_grid": TranslationGrid, "metrics": TranslationMetrics, "health": TranslationHealth}
METHODS = {
    method.model.method: method
    for method in (
        Method(
            GAN,
            "dcgan_mnist",
            {
                "data": "MNIST",
                "model.generator": "DCGANGenerator",
                "model.discriminator": "DCGANDiscriminator",
                "model.loss": "NonSaturatingLoss",
            },
            dict.fromkeys(("generator", "discriminator"), ("image_shape", "num_classes", "condition_dim")),
            {"image_grid": ImageGrid, "metrics": GenerativeMetrics, "health": HealthMonitor},
            translates=False,
        ),
        Method(
            PairedTranslation,
            "inpaint_mnist",
            {**TRANSLATORS, "model.loss": "NonSaturatingLoss"},
            dict.fromkeys(("generator", "discriminator"), ("image_shape", "source_shape")),
            TRANSLATION_CALLBACKS,
            needs_pairs=True,
        ),
        Method(
            CycleGAN,
            "cyclegan_mnist",
            TRANSLATORS,
            {"generator": ("image_shape", "source_shape"), "discriminator": ("image_shape",)},
            TRANSLATION_CALLBACKS,
        ),
    )
}
"""Name of each method, as in checkpoints and in recipes -> what belongs to it."""
