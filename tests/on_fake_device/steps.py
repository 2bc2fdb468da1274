"""Training steps on the fake device: all tensors are on it, the host never waits, and the weights become the CPU's.

Each case trains twice, with Lightning: on the CPU and on the device. The second run watches everything from the end of a step
to the end of the next, so batches, Lightning's loop and the average belong to it.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from gan_lightning import losses
from gan_lightning.augment import TRANSFORMS, AdaptiveAugment, Augmentation, DiffAugment
from gan_lightning.callbacks.schedules import Schedules
from gan_lightning.commands.common.arguments import instantiate
from gan_lightning.commands.common.recipes import recipes_of
from gan_lightning.commands.train.settings import settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.cycle import CycleGAN
from gan_lightning.data import Derived, Downscale, Edges, Grey, Hole, ImageDataModule, ImageFolder, TurnedNegative
from gan_lightning.data.degradations import Degradation
from gan_lightning.gan import GAN
from gan_lightning.losses import AdversarialLoss, NonSaturatingLoss
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    DropoutConvDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    PatchDiscriminator,
    ProjectedDiscriminator,
    R3GANDiscriminator,
    R3GANGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
    ResNetTranslator,
    SRResNet,
    UNetGenerator,
    VisionAidedDiscriminator,
)
from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.convolution import GroupedConv2d
from gan_lightning.pictures import write_png
from gan_lightning.regularizers import DRAGAN, R1, R2, WGANGP, LeCam, Penalty, WeightClipping
from gan_lightning.schedules import LinearSchedule
from gan_lightning.translation import PairedTranslation
from tests.fake_device import NAME, strategy, watching
from tests.helpers import TensorData, fit
from tests.translators import PairData
from timing import flags

STEPS = 3
SHAPE, CLASSES = (3, 16, 16), 3
RECIPES = recipes_of("GAN")
SMALLER = "--data.image_shape [3,32,32]"
NARROW = {
    **dict.fromkeys(("sngan_cifar10", "sngan_cifar10_conditional", "wgan_gp_cifar10"), "--model.{}.widths [8,8,8,8]"),
    **dict.fromkeys(("r3gan_cifar10", "r3gan_cifar10_slim"), "--model.{}.widths [16,16,16,16] --model.{}.blocks 1"),
    **dict.fromkeys(("r3gan_mnist_slim", "r3gan_stacked_mnist"), "--model.{}.widths [16,16,16] --model.{}.blocks 1"),
    **dict.fromkeys(
        ("dcgan_cifar10", "folder_64", "dcgan_stacked_mnist", "dcgan_mnist", "dcgan_fashion_mnist", "lsgan_mnist"),
        "--model.{}.width 8",
    ),
    **dict.fromkeys(("folder_128", "folder_256"), f"{SMALLER} --model.{{}}.width 4 --model.discriminator.resolution 32"),
    "r3gan_folder_256": f"{SMALLER} --model.{{}}.widths [16,16,16,16] --model.{{}}.blocks 1 --model.micro_batch 2",
}
"""Flags of each network that make a recipe fast."""
LOSSES = [
    losses.MinimaxLoss,
    losses.NonSaturatingLoss,
    losses.LeastSquaresLoss,
    losses.WassersteinLoss,
    losses.HingeLoss,
    losses.RelativisticPairingLoss,
    losses.RelativisticAverageLoss,
]
PENALTIES = [R1(), R2(every=2), WGANGP(), DRAGAN(), LeCam()]


class Waits(Callback):
    """Counts what the host waits for in each step, from the end of the step before."""

    def __init__(self, watch: Any) -> None:
        self.watch = watch
        self.seen: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 0:
            self.watch.waits.clear()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen += self.watch.waits
        self.watch.waits.clear()


class Devices(Callback):
    """Checks that the outputs of every step are on the device."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        assert {value.device.type for value in outputs.values()} == {NAME}


def check(model: AdversarialModule, data: ImageDataModule, callbacks: Sequence[Callback] = (), **arguments: Any) -> None:
    """Train on the CPU and on the device, and compare every weight bit for bit."""
    other = copy.deepcopy(model)

    def train(model: AdversarialModule, *more: Callback, **device: Any) -> None:
        torch.manual_seed(0)
        fit(model, data, [*copy.deepcopy(callbacks), *more], max_steps=STEPS, **device, **arguments)

    train(other)
    with watching() as watch:
        waits = Waits(watch)
        train(model, waits, Devices(), accelerator="auto", strategy=strategy())
    assert not waits.seen
    theirs = other.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value.cpu(), theirs[name]), name


def noise(classes: int = CLASSES, batch_size: int = 4, **arguments: Any) -> TensorData:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, *SHAPE), generator=random, dtype=torch.uint8)
    return TensorData(images, torch.arange(64) % classes if classes else None, batch_size=batch_size, **arguments)


def small(
    generator: Generator | None = None,
    discriminator: Discriminator | None = None,
    loss: AdversarialLoss | None = None,
    **arguments: Any,
) -> GAN:
    torch.manual_seed(0)
    return GAN(
        generator or MLPGenerator(SHAPE, CLASSES, latent_dim=4, hidden=[8]),
        discriminator or DCGANDiscriminator(SHAPE, CLASSES, width=4, batch_norm=False),
        loss or NonSaturatingLoss(),
        **arguments,
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouped convolutions take the way that they take on CUDA."""
    monkeypatch.setattr(GroupedConv2d, "has_fast_derivatives", staticmethod(lambda images: True))
    parser = Verb.train.make_parser()
    narrow = " ".join(NARROW.get(recipe, "").replace("{}", network) for network in ("generator", "discriminator")).split()
    objects = instantiate(parser, settings(parser, [*flags(recipe, 4, 1), "--data.count", "96", *narrow])[0])
    check(objects.model, objects.data, [objects.schedules])


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
def test_penalties(penalty: Penalty) -> None:
    schedules = Schedules(penalty=LinearSchedule(4))
    check(small(penalty=[copy.deepcopy(penalty)], augmentation=DiffAugment(["flip"])), noise(), [schedules])


@pytest.mark.parametrize("name", [*TRANSFORMS, "some", "adaptive"])
def test_augmentations(name: Any) -> None:
    made: dict[str, Callable[[], Augmentation]] = {
        "some": lambda: DiffAugment(list(TRANSFORMS), probability=0.5),
        "adaptive": lambda: AdaptiveAugment(every=1),
    }
    augmentation = made[name]() if name in made else DiffAugment([name])
    check(small(augmentation=augmentation, penalty=R1()), noise(), [Schedules(augmentation=LinearSchedule(4))])


def test_random_crops_of_balanced_classes_with_transparency(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    for i in range(30):
        folder = tmp_path / "photos" / ("many" if i else "few")
        folder.mkdir(parents=True, exist_ok=True)
        write_png(torch.randint(0, 256, (4, 16, 16 + i), generator=random, dtype=torch.uint8), folder / f"{i}.png")
    photos = ImageFolder(tmp_path / "photos", 16, 4, batch_size=4, crop="random", balance=True, horizontal_flip=True)
    generator = MLPGenerator(photos.image_shape, latent_dim=4, hidden=[8])
    discriminator = DCGANDiscriminator(photos.image_shape, width=4, batch_norm=False)
    check(small(generator, discriminator, augmentation=DiffAugment()), photos)


class Sources(Callback):
    """Checks that the sources of translation are where the targets are."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        targets, sources = batch
        assert targets.device == sources.device == pl_module.device


@pytest.mark.parametrize(
    "degradation",
    [Grey(), Downscale(2), Hole(), Hole("1,2,3,4"), Edges(), TurnedNegative()],
    ids=lambda degradation: type(degradation).__name__,
)
@pytest.mark.parametrize("paired", [True, False])
def test_sources_made_from_targets(degradation: Degradation, paired: bool) -> None:
    def images(**arguments: Any) -> TensorData:
        return noise(classes=0, **arguments)

    check(small(), Derived(images, degradation, paired=paired, batch_size=4, horizontal_flip=True), [Sources()])


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss: type[AdversarialLoss]) -> None:
    check(small(loss=loss(), reuse_fakes=True), noise())
    check(small(loss=loss(), discriminator_steps=2, ema_halflife=100.0), noise(horizontal_flip=True))


GENERATORS: dict[str, Callable[..., Generator]] = {
    "dcgan": lambda how: DCGANGenerator(SHAPE, CLASSES, 4, width=4, conditioning=how),
    "mlp": lambda how: MLPGenerator(SHAPE, CLASSES, 4, hidden=[8], conditioning=how),
    "resnet": lambda how: ResNetGenerator(SHAPE, CLASSES, 4, widths=[8] * 3, attention_at=8, conditioning=how),
}
HEADS = ["concatenation", "projection", "classifier"]
DISCRIMINATORS: dict[str, Callable[..., Discriminator]] = {
    "dcgan": lambda how: DCGANDiscriminator(SHAPE, CLASSES, width=4, conditioning=how),
    "mlp": lambda how: MLPDiscriminator(SHAPE, CLASSES, hidden=[8], conditioning=how),
    "resnet": lambda how: ResNetDiscriminator(SHAPE, CLASSES, widths=[8] * 4, attention_at=8, conditioning=how),
    "r3gan": lambda how: R3GANDiscriminator(SHAPE, CLASSES, widths=[16] * 3, blocks=1, conditioning=how),
    "projected": lambda how: ProjectedDiscriminator(SHAPE, CLASSES, resolution=32, width=4, conditioning=how),
    "vision-aided": lambda how: VisionAidedDiscriminator(SHAPE, CLASSES, 32, 4, pixel_width=4, conditioning=how),
    "dropout": lambda how: DropoutConvDiscriminator(SHAPE, CLASSES, width=4, conditioning=how),
}


@pytest.mark.parametrize("how", ["concatenation", "batch_norm"])
@pytest.mark.parametrize("name", GENERATORS)
def test_conditional_generators(name: str, how: str) -> None:
    discriminator = MLPDiscriminator(SHAPE, CLASSES, hidden=[8], conditioning="projection")
    check(small(GENERATORS[name](how), discriminator, ema_halflife=10.0), noise())


def test_conditional_r3gan() -> None:
    generator = R3GANGenerator(SHAPE, CLASSES, 4, widths=[16] * 3, blocks=1, conditioning="concatenation")
    check(small(generator, MLPDiscriminator(SHAPE, CLASSES, hidden=[8], conditioning="concatenation")), noise())


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, how) for name in DISCRIMINATORS for how in HEADS if name != "projected" or how == "projection"],  # it is slow here
)
def test_conditional_discriminators(name: str, how: str) -> None:
    generator = MLPGenerator(SHAPE, CLASSES, latent_dim=4, hidden=[8], conditioning="concatenation")
    penalty = R1() if name not in ("dropout", "projected") else None
    check(small(generator, DISCRIMINATORS[name](how), penalty=penalty, constraint=WeightClipping(0.5)), noise())


def noisy_pairs(factor: int = 1) -> PairData:
    images, _ = noise().images("train")
    return PairData(images, 255 - images[:, :, ::factor, ::factor], batch_size=4)


def test_paired_translation() -> None:
    """With instance norm, the second derivative of the penalty would round differently on this device."""
    torch.manual_seed(0)
    augmentation = DiffAugment(["flip", "color", "translation"])
    d = PatchDiscriminator(SHAPE, source_shape=SHAPE, width=4, layers=1, norm=None)
    options: dict[str, Any] = {"penalty": R1(), "augmentation": augmentation, "ema_halflife": 100.0, "perceptual_weight": 1.0}
    check(PairedTranslation(UNetGenerator(SHAPE, SHAPE, width=4), d, NonSaturatingLoss(), **options), noisy_pairs())


def test_super_resolution() -> None:
    torch.manual_seed(0)
    small_shape = (3, 4, 4)
    d = PatchDiscriminator(SHAPE, source_shape=small_shape, width=4, layers=1, norm="spectral")
    check(PairedTranslation(SRResNet(SHAPE, small_shape, 4, 1), d, losses.HingeLoss()), noisy_pairs(4))


def test_unpaired_translation() -> None:
    """The pools fill in the second step."""
    torch.manual_seed(0)
    networks = ResNetTranslator(SHAPE, SHAPE, width=4, blocks=1), PatchDiscriminator(SHAPE, width=4, layers=1)
    check(CycleGAN(*networks, identity_weight=5.0, pool_size=6, ema_halflife=100.0), noisy_pairs())


@pytest.mark.parametrize("penalty", [None, R1(), LeCam()], ids=str)
def test_mixed_precision(penalty: Penalty | None) -> None:
    """No comparison with the CPU: its autocast has other lists of operations."""
    model = small(penalty=penalty, augmentation=DiffAugment(), ema_halflife=100.0)
    dtypes: set[torch.dtype] = set()
    assert isinstance(model.generator, MLPGenerator)
    model.generator.layers[0].register_forward_hook(lambda layer, inputs, features: dtypes.add(features.dtype))
    with watching() as watch:
        waits = Waits(watch)
        device: dict[str, Any] = {
            "accelerator": "auto",
            "strategy": strategy(),
            "plugins": [MixedPrecision("bf16-mixed", NAME)],
        }
        fit(model, noise(), [waits, Devices()], max_steps=STEPS, **device)
    assert not waits.seen
    assert dtypes == {torch.bfloat16}


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "a wait": lambda images: images * (2.0 if images.mean().item() > 9 else 1.0),
    "a tensor of the CPU": lambda images: images + torch.zeros(images.shape[-1]),
    "a draw on the CPU": lambda images: images + 0 * torch.randn(()),  # other latents follow on the CPU than on the device
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    model = small(discriminator=DCGANDiscriminator(SHAPE, width=4))
    model.generator.register_forward_hook(lambda module, inputs, images: FAULTS[fault](images))
    with pytest.raises((AssertionError, RuntimeError)):
        check(model, noise(0))
