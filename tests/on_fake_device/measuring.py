"""Waits outside of a training step: few, and no more for larger networks or more samples."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from gan_lightning.callbacks import GenerativeMetrics, HealthMonitor, TrainingLog
from gan_lightning.data import Split
from gan_lightning.errors import Diverged
from gan_lightning.gan import GAN
from gan_lightning.inference import Sampler
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.metrics.evaluator import collect, compute
from gan_lightning.metrics.features import ModuleExtractor
from gan_lightning.metrics.functional import root
from gan_lightning.metrics.statistics import Statistics
from gan_lightning.metrics.table import METRICS
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator
from tests.fake_device import DEVICE, Watch, strategy, watching
from tests.helpers import TensorData, fit, small_gan
from tests.metrics.extractors import Tiny

SHAPE, CLASSES = (3, 16, 16), 3
EXTRACTOR = "tests.metrics.extractors.Tiny"


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


def waits_of(callback: Callback, model: GAN, steps: int, **arguments: Any) -> int:
    """Train on the device, and count the waits of a callback at the end of the last step."""
    seen: list[int] = []

    class Before(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            watch.waits.clear()

    class After(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(total(watch))

    with watching() as watch:
        arguments |= {"accelerator": "auto", "strategy": strategy(), "max_steps": steps}
        fit(model, data(), [Before(), callback, After()], **arguments)
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
    """The host waits for the weights, the samples and the values. The values equal the CPU's."""
    monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 1)
    monitor, other = (HealthMonitor(every_n_steps=2, extractor="classifier") for _ in range(2))
    assert waits_of(monitor, gan(conditioning), 2) == 3
    fit(gan(conditioning), data(), [other], max_steps=2)
    assert len(other.latest) == 12
    assert monitor.latest == pytest.approx(other.latest, nan_ok=True, rel=1e-6)


def test_the_log_waits_once() -> None:
    log, other = TrainingLog(), TrainingLog()
    assert waits_of(log, gan(), 4, log_every_n_steps=4) == 1
    assert waits_of(TrainingLog(), gan(), 3, log_every_n_steps=4) == 0
    fit(gan(), data(), [other], max_steps=4, log_every_n_steps=4)
    for values in (log.latest, other.latest):
        assert values.pop("images_per_second") > 0
    assert log.latest == other.latest


def test_measured_samples_wait_once_a_batch() -> None:
    """For the check of their values. The statistics are the CPU's."""

    def collected(device: torch.device | str, count: int) -> tuple[Statistics, int]:
        sampler, extractor = Sampler(gan("concatenation").generator.to(device)), ModuleExtractor(Tiny()).to(device)
        with watching() as watch:
            made = collect(sampler.by_index([1, 1, 2]), extractor, count, batch_size=50, keep_features=True)
        assert made is not None
        return made, total(watch)

    few, waits = collected(DEVICE, 100)
    many, more_waits = collected(DEVICE, 450)
    assert more_waits - waits == 7
    assert 2 < waits < 8
    for ours, count in ((few, 100), (many, 450)):
        theirs, none = collected("cpu", count)
        assert none == 0
        for field in fields(Statistics):
            mine, other = getattr(ours.cpu(), field.name), getattr(theirs, field.name)
            assert mine == other if field.name == "count" else torch.equal(mine, other), field.name
        assert ours.features is not None
        assert ours.features.device == DEVICE


def test_metrics_are_computed_on_the_device() -> None:
    """From real features in host memory, with as many waits for any number of images; the values are the CPU's."""
    images = data().tensors[0]
    reference = collect(lambda indices: images[indices], ModuleExtractor(Tiny()), 600, keep_features=True)

    def computed(device: torch.device | str, count: int) -> tuple[dict[str, float], Watch]:
        sampler, extractor = Sampler(gan("concatenation").generator.to(device)), ModuleExtractor(Tiny()).to(device)
        generated = collect(sampler.by_index(), extractor, count, keep_features=True)
        with watching() as watch:
            return compute(generated, reference, "", list(METRICS)), watch

    (few, few_watched), (many, watched) = computed(DEVICE, 100), computed(DEVICE, 450)
    assert many.keys() == {name.replace("_100", "_450") for name in few}
    assert total(watched) == total(few_watched) <= 2 * len(METRICS) + len(few)
    assert few_watched.launches["aten._linalg_eigh.default"] == watched.launches["aten._linalg_eigh.default"] == 1
    assert watched.launches["aten.topk.default"] == 2  # of neighbours, in both sets
    assert many == pytest.approx(computed("cpu", 450)[0], rel=1e-9)


def test_a_measurement_in_training_waits_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of the real covariance is computed on the device, once for both measurements."""
    solved: list[torch.device] = []

    def counted(covariance: Tensor) -> Tensor:
        solved.append(covariance.device)
        return root(covariance)

    monkeypatch.setattr("gan_lightning.metrics.statistics.root", counted)

    def waits(count: int) -> int:
        metrics = GenerativeMetrics(extractor=EXTRACTOR, metrics="fid,is", num_images=count, every_n_steps=2)
        return waits_of(metrics, gan("concatenation"), 4)

    assert waits(450) - waits(100) == 7
    assert solved == [DEVICE, DEVICE]


def test_samples_wait_twice_a_batch() -> None:
    """For the check of their values, and for the images."""
    sampler = Sampler(gan("concatenation").generator.to(DEVICE))
    with watching() as watch:
        sampler.sample(100, batch_size=20)
    assert total(watch) == 10


def test_real_images_are_measured_without_waits() -> None:
    images, extractor = data().tensors[0], ModuleExtractor(Tiny()).to(DEVICE)

    def waits(count: int) -> int:
        with watching() as watch:
            collect(lambda indices: images[indices], extractor, count)
        return total(watch)

    assert waits(500) == waits(100)
