"""Waits outside of a training step: few, and no more for larger networks or more samples."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from gan_lightning.callbacks import HealthMonitor
from gan_lightning.data import Split
from gan_lightning.errors import Diverged
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator
from tests.fake_device import DEVICE, Watch, strategy, watching
from tests.helpers import TensorData, fit, small_gan

SHAPE, CLASSES = (3, 16, 16), 3


def total(watch: Watch) -> int:
    return sum(watch.waits.values())


def gan(conditioning: Any = None) -> GAN:
    torch.manual_seed(0)
    classes = CLASSES if conditioning else 0
    generator = DCGANGenerator(SHAPE, classes, latent_dim=4, width=4, conditioning=conditioning)
    return GAN(generator, DCGANDiscriminator(SHAPE, classes, width=4, conditioning=conditioning), NonSaturatingLoss())


class Halves(TensorData):
    """The last half is held out."""

    def images(self, split: Split) -> tuple[Tensor, Tensor | None]:
        parts = [tensor.chunk(2)[split == "test"] for tensor in self.tensors if tensor is not None]
        return parts[0], parts[1]


def data() -> TensorData:
    random = torch.Generator().manual_seed(0)
    return Halves(torch.randint(0, 256, (600, *SHAPE), generator=random, dtype=torch.uint8), torch.arange(600) % CLASSES)


def waits_of(callback: Callback, model: GAN, steps: int) -> int:
    """Train on the device, and count the waits of a callback at the end of the last step."""
    seen: list[int] = []

    class Before(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            watch.waits.clear()

    class After(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(total(watch))

    with watching() as watch:
        fit(model, data(), [Before(), callback, After()], max_steps=steps, accelerator="auto", strategy=strategy())
    return seen[-1]


def test_the_finite_check_waits_once() -> None:
    """For all parameters of all networks."""
    model = small_gan()
    model.generator.register_parameter("none", nn.Parameter(torch.empty(0)))
    model.to(DEVICE)
    with watching() as watch:
        model.require_finite()
    assert total(watch) == 1
    for bad in (float("nan"), float("inf"), -float("inf")):
        with torch.no_grad():
            next(model.discriminator.parameters())[0, 0] = bad
        with watching() as watch, pytest.raises(Diverged, match="the discriminator's"):
            model.require_finite()
        assert total(watch) == 1


@pytest.mark.parametrize("conditioning", [None, "concatenation"])
def test_a_health_check_waits_three_times(conditioning: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the weights, for the samples and for the values, which are the CPU's."""
    monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 1)
    monitor, other = (HealthMonitor(every_n_steps=2, extractor="classifier") for _ in range(2))
    assert waits_of(monitor, gan(conditioning), 2) == 3
    fit(gan(conditioning), data(), [other], max_steps=2)
    assert len(other.latest) == 12
    assert monitor.latest == pytest.approx(other.latest, nan_ok=True, rel=1e-6)
