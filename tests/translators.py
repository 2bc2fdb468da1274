"""Small translators with closed forms, discriminators of images and sources, and data of images with sources."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from gan_lightning.cycle import CycleGAN
from gan_lightning.images import to_float
from gan_lightning.losses import AdversarialLoss, NonSaturatingLoss
from gan_lightning.networks import PatchDiscriminator, UNetGenerator
from gan_lightning.networks.base import Discriminator, Translator
from gan_lightning.translation import PairedTranslation
from tests.helpers import TensorData

SHAPE = (1, 8, 8)


class Affine(Translator):
    """Maps x to scale * x + shift."""

    def __init__(
        self,
        image_shape: tuple[int, int, int] = SHAPE,
        source_shape: tuple[int, int, int] = SHAPE,
        scale: float = 0.5,
        shift: float = 0.25,
    ) -> None:
        super().__init__(image_shape, source_shape)
        self.scale, self.shift = nn.Parameter(torch.tensor([scale])), nn.Parameter(torch.tensor([shift]))

    def forward(self, source: Tensor) -> Tensor:
        return self.scale * source + self.shift


class Mean(Discriminator):
    """The logit is weight * mean(image) + source_weight * mean(source) + bias."""

    samples_are_independent = True

    def __init__(
        self,
        image_shape: tuple[int, int, int] = SHAPE,
        source_shape: tuple[int, int, int] | None = None,
        weight: float = 1.5,
        source_weight: float = -0.5,
        bias: float = 0.1,
    ) -> None:
        super().__init__(image_shape)
        self.source_shape = source_shape
        self.weight, self.bias = nn.Parameter(torch.tensor([weight])), nn.Parameter(torch.tensor([bias]))
        if source_shape is not None:
            self.source_weight = nn.Parameter(torch.tensor([source_weight]))

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1).mean(1, keepdim=True)

    def features_and_logits(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        logits = self.weight * features + self.bias
        if labels is not None:
            logits = logits + self.source_weight * self.features(labels)
        return features, logits.squeeze(1)

    def judge(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self(images, labels), None


class PairData(TensorData):
    """Targets and sources uint8 that a test makes."""

    def __init__(self, targets: Tensor, sources: Tensor, **arguments: Any) -> None:
        super().__init__(targets, **arguments)
        self.tensors = targets, sources

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor | None], dataloader_idx: int) -> tuple[Tensor, Tensor | None]:
        targets, sources = batch
        assert sources is not None
        return to_float(targets), to_float(sources)


def pairs(count: int = 64, batch_size: int = 8, shape: tuple[int, int, int] = SHAPE, factor: int = 1) -> PairData:
    """Make noise as targets, and their negatives as sources, in every ``factor``-th pixel."""
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return PairData(images, 255 - images[:, :, ::factor, ::factor], batch_size=batch_size)


def sgd(parameters: Any) -> SGD:
    return SGD(parameters, lr=0.1)


def small_translation(loss: AdversarialLoss | None = None, **arguments: Any) -> PairedTranslation:
    """Make pix2pix of tiny networks with instance norm."""
    return PairedTranslation(
        UNetGenerator(SHAPE, SHAPE, width=4),
        PatchDiscriminator(SHAPE, source_shape=SHAPE, width=4, layers=1),
        loss or NonSaturatingLoss(),
        **arguments,
    )


def small_cycle(**arguments: Any) -> CycleGAN:
    """Make CycleGAN of tiny networks with instance norm."""
    return CycleGAN(UNetGenerator(SHAPE, SHAPE, width=4), PatchDiscriminator(SHAPE, width=4, layers=1), **arguments)
