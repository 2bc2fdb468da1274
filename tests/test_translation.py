"""Paired translation: the steps against hand-computed values, and what it shares with a GAN."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.nn.functional import softplus

from gan_lightning import checkpoint
from gan_lightning.augment import AdaptiveAugment, Augmentation, DiffAugment
from gan_lightning.callbacks import TrainingLog
from gan_lightning.errors import Diverged
from gan_lightning.losses import NonSaturatingLoss, RelativisticPairingLoss, WassersteinLoss
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import MLPDiscriminator, SRResNet, Translator, UNetGenerator
from gan_lightning.networks.base import rebuild
from gan_lightning.regularizers import R1, LeCam, WeightClipping
from gan_lightning.translation import PairedTranslation
from tests.helpers import Batches, Outputs, fit, refuses, same_state, small_gan
from tests.translators import SHAPE, Affine, Mean, pairs, sgd, small_cycle, small_translation

METHODS: dict[str, Callable[..., AdversarialModule]] = {"pairs": small_translation, "cycle": small_cycle}
each_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


def tiny(**arguments: Any) -> PairedTranslation:
    """Make a translation of two networks with closed forms."""
    loss = arguments.pop("loss", NonSaturatingLoss())
    return PairedTranslation(Affine(), Mean(source_shape=SHAPE), loss, sgd, sgd, **arguments)


def networks_of(model: PairedTranslation) -> tuple[Affine, Mean]:
    assert isinstance(model.generator, Affine)
    assert isinstance(model.discriminator, Mean)
    return model.generator, model.discriminator


def test_one_step_by_hand() -> None:
    """Isola et al. 2017, equations 1, 3 and 4, with plain SGD and gradients in closed form.

    D(x, y) = a mean(y) + c mean(x) + b, and G(x) = s x + t.
    """
    model = tiny(l1_weight=3.0, adversarial_weight=0.7)
    fit(model, pairs(), callbacks=[batches := Batches(), outputs := Outputs()], max_steps=1)
    ((y, x),) = batches.seen
    assert x is not None
    a, c, b, s, t = 1.5, -0.5, 0.1, 0.5, 0.25
    fake = s * x + t
    means = {name: images.flatten(1).mean(1) for name, images in {"y": y, "x": x, "fake": fake}.items()}
    real_logits, fake_logits = (a * means[name] + c * means["x"] + b for name in ("y", "fake"))
    logged = outputs.seen[0]
    assert logged["discriminator_loss"] == pytest.approx(
        float((softplus(-real_logits) + softplus(fake_logits)).mean()), rel=1e-5
    )
    assert logged["real_probability"] == pytest.approx(float(real_logits.sigmoid().mean()), rel=1e-5)
    to_real, to_fake = (real_logits.sigmoid() - 1) / 8, fake_logits.sigmoid() / 8  # of the loss, for each logit
    a -= 0.1 * float((to_real * means["y"] + to_fake * means["fake"]).sum())
    c -= 0.1 * float(((to_real + to_fake) * means["x"]).sum())
    b -= 0.1 * float((to_real + to_fake).sum())
    generator, discriminator = networks_of(model)
    found = [float(p.detach()) for p in (discriminator.weight, discriminator.source_weight, discriminator.bias)]
    assert found == pytest.approx([a, c, b], rel=1e-5)

    fake_logits = a * means["fake"] + c * means["x"] + b
    assert logged["generator_loss"] == pytest.approx(float(softplus(-fake_logits).mean()), rel=1e-5)
    assert logged["l1"] == pytest.approx(float((y - fake).abs().mean()), rel=1e-5)
    signs, to_fake = (fake - y).sign(), (fake_logits.sigmoid() - 1) / 8 * a
    assert float(generator.scale.detach()) == pytest.approx(
        s - 0.1 * float(3.0 * (signs * x).mean() + 0.7 * (to_fake * means["x"]).sum()), rel=1e-4
    )
    assert float(generator.shift.detach()) == pytest.approx(t - 0.1 * float(3.0 * signs.mean() + 0.7 * to_fake.sum()), rel=1e-4)


def test_without_an_adversarial_weight_it_is_regression() -> None:
    """L1 alone: the discriminator keeps its weights, and the generator finds the map from negatives to images, -x."""
    model = tiny(adversarial_weight=0.0, l1_weight=1.0)
    before = copy.deepcopy(model.discriminator)
    fit(model, pairs(), callbacks=[outputs := Outputs(), TrainingLog()], max_steps=150)
    assert same_state(model.discriminator, before)
    assert set(outputs.seen[0]) == {"l1"}
    generator, _ = networks_of(model)
    assert float(generator.scale.detach()) == pytest.approx(-1, abs=0.1)
    assert float(generator.shift.detach()) == pytest.approx(0, abs=0.1)
    assert outputs.seen[-1]["l1"] < 0.1 < 0.5 < outputs.seen[0]["l1"]


def test_the_perceptual_distance_is_added() -> None:
    """Its network is in no checkpoint, and no optimizer has its weights."""
    plain, perceptual = (small_translation(perceptual_weight=weight) for weight in (0.0, 10.0))
    perceptual.load_state_dict(plain.state_dict())
    assert plain.state_dict().keys() == perceptual.state_dict().keys()
    for model in (plain, perceptual):
        torch.manual_seed(0)
        fit(model, pairs(), callbacks=[outputs := Outputs()], max_steps=1)
    assert outputs.seen[0]["perceptual"] > 0
    assert same_state(plain.discriminator, perceptual.discriminator)
    assert not same_state(plain.generator, perceptual.generator)
    small_translation(adversarial_weight=0.0, l1_weight=0.0, perceptual_weight=1.0)


def test_a_penalty_differentiates_with_respect_to_images_given_their_sources() -> None:
    """The slope of D = weight * mean(image) + ... in an image is weight / pixels at each pixel."""
    model = tiny(penalty=[R1(gamma=2.0), LeCam()], adversarial_weight=1.0)
    fit(model, pairs(), callbacks=[outputs := Outputs()], max_steps=1)
    batch = {"weight": 1.5, "pixels": 64}
    r1 = batch["weight"] ** 2 / batch["pixels"]
    assert outputs.seen[0]["penalty"] > r1
    model = tiny(penalty=R1(gamma=2.0))
    fit(model, pairs(), callbacks=[outputs := Outputs()], max_steps=1)
    assert outputs.seen[0]["penalty"] == pytest.approx(r1, rel=1e-5)


def test_lazy_penalties_and_constraints_count_updates() -> None:
    model = tiny(loss=WassersteinLoss(), penalty=R1(every=2), constraint=WeightClipping(0.2))
    fit(model, pairs(), callbacks=[outputs := Outputs()], max_steps=4)
    assert [values["penalty"] > 0 for values in outputs.seen] == [True, False, True, False]
    assert max(float(p.detach().abs().max()) for p in model.discriminator.parameters()) == pytest.approx(0.2)


GEOMETRIC = ["translation", "cutout", "flip", "rotate90", "geometry"]


@pytest.mark.parametrize("names", [[name] for name in GEOMETRIC] + [GEOMETRIC])
@pytest.mark.parametrize("make", [DiffAugment, AdaptiveAugment])
def test_an_image_and_its_source_change_places_together(names: Any, make: Any) -> None:
    augment = make(names)
    if isinstance(augment, AdaptiveAugment):
        augment.probability.fill_(0.8)
    images = torch.rand(16, 3, 12, 12) + 0.5
    sources = 2 * images[:, :2]
    changed, changed_sources = augment.pairs(images, sources)
    assert changed.shape == images.shape
    assert torch.allclose(changed_sources, 2 * changed[:, :2], atol=1e-5)
    assert (changed != images).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_only_in_the_image(channels: int) -> None:
    images, sources = torch.rand(4, 3, 8, 8), torch.rand(4, channels, 8, 8)
    torch.manual_seed(0)
    changed, unchanged = DiffAugment(["color"]).pairs(images, sources)
    torch.manual_seed(0)
    assert torch.equal(changed, DiffAugment(["color"])(images))
    assert torch.equal(unchanged, sources)


def test_the_discriminator_sees_augmented_pairs_of_the_image_s_size() -> None:
    """A smaller source is enlarged before it is moved."""
    shape, source_shape = (1, 16, 16), (1, 8, 8)
    d = Mean(shape, source_shape)
    model = PairedTranslation(
        SRResNet(shape, source_shape, width=4, blocks=1), d, NonSaturatingLoss(), augmentation=DiffAugment(["translation"])
    )
    sources = torch.rand(4, 1, 8, 8)
    images = sources.repeat_interleave(2, 2).repeat_interleave(2, 3)
    moved, moved_sources = model.augmented(images, sources)
    assert moved_sources is not None
    assert torch.equal(moved, moved_sources)
    assert not torch.equal(moved, images)
    fit(model, pairs(shape=shape, factor=2), max_steps=2)


def test_a_custom_augmentation_of_images_is_refused() -> None:
    class Darker(Augmentation):
        def forward(self, images: Tensor) -> Tensor:
            return images - 0.1

    with refuses("Darker"):
        fit(small_translation(augmentation=Darker()), pairs(), max_steps=1)


def test_ada_follows_the_logits_of_augmented_targets() -> None:
    augment = AdaptiveAugment(["flip"], images=64, every=1, target=0.01)
    model = tiny(augmentation=augment)
    networks_of(model)[1].bias.data.fill_(100.0)  # certain of every image
    fit(model, pairs(), max_steps=2)
    assert float(augment.probability) == pytest.approx(2 * 8 / 64)


def test_a_loss_that_sees_real_images_and_a_discriminator_without_sources() -> None:
    model = PairedTranslation(Affine(), Mean(), RelativisticPairingLoss(), sgd, sgd)
    fit(model, pairs(), max_steps=3)
    assert not same_state(model.discriminator, Mean())
    y, x = torch.rand(2, *SHAPE), torch.rand(2, *SHAPE)
    assert model.augmented(y, x)[1] is None
    assert model.real_batches_per_step == 1


def test_monitoring_and_pictures() -> None:
    model = small_translation(ema_halflife=64.0)
    fit(model, pairs(), max_steps=2)
    images = torch.rand(3, *SHAPE)
    features, logits = model.features_and_logits(images, images)
    assert features.shape[0] == 3
    assert logits.shape == (3,)
    model.train()
    drawn = model.translate(torch.rand(3, 1, 11, 6) * 2 - 1)
    assert (drawn.dtype, drawn.shape) == (torch.uint8, (3, 1, 11, 6))
    assert model.sampler is model.ema
    assert model.generator.training
    sources = torch.rand(2, *SHAPE) * 2 - 1
    assert torch.equal(model.translate(sources), model.translate(sources))  # no dropout


# All methods


@each_method
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_parameter_of_every_network_gets_a_gradient(make: Callable[..., AdversarialModule], precision: str) -> None:
    """No process waits for a gradient that another one does not send."""
    seen: list[str] = []

    class Look(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            assert all(p.isfinite().all() for p in pl_module.parameters())
            without = [name for name, p in pl_module.named_parameters() if p.grad is None and "ema" not in name]
            seen.extend(without or ["all"])

    model = make(ema_halflife=64.0)
    trainer = fit(model, pairs(), callbacks=[Look()], max_steps=2, precision=precision)
    assert seen == ["all", "all"]
    assert trainer.global_step == 2


class SaveAt(Callback):
    """Saves a checkpoint after so many steps."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


@each_method
def test_a_resumed_run_ends_like_an_uninterrupted_one(make: Callable[..., AdversarialModule], tmp_path: Path) -> None:
    """To the last bit: weights, averages, pools, optimizers and what each step logs."""

    def run(seed: int, **arguments: Any) -> tuple[AdversarialModule, list[dict[str, float]]]:
        torch.manual_seed(seed)
        own: dict[str, Any] = {"pool_size": 16} if make is small_cycle else {"augmentation": DiffAugment(["flip"])}
        model = make(ema_halflife=64.0, **own)
        torch.manual_seed(0)
        saves = [SaveAt(5, tmp_path / "half.ckpt"), SaveAt(12, tmp_path / f"{seed}.ckpt")]
        fit(model, pairs(count=72), callbacks=[outputs := Outputs(), *saves], max_steps=12, **arguments)
        return model, outputs.seen

    whole, logged = run(0)
    resumed, logged_after = run(1, ckpt_path=tmp_path / "half.ckpt")
    assert logged_after == logged[5:]
    assert same_state(resumed, whole)
    one, other = (checkpoint.load_gan(tmp_path / f"{seed}.ckpt") for seed in (0, 1))
    assert_equal(one, other)


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    else:
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


@each_method
def test_a_checkpoint_names_its_method_and_rebuilds_its_translators(
    make: Callable[..., AdversarialModule], tmp_path: Path
) -> None:
    model = make(ema_halflife=64.0)
    fit(model, pairs(), max_steps=1).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    assert checkpoint.method(content) == type(model).__name__ == model.method
    assert "hyper_parameters" not in content
    for name in (*model.generators, *model.generators.values()):
        weights = {key.removeprefix(f"{name}."): v for key, v in content["state_dict"].items() if key.startswith(f"{name}.")}
        about = content[checkpoint.KEY][name if name in model.generators else "generator"]
        twin = rebuild(Translator, about, weights, (), "a.ckpt")  # type: ignore[type-abstract]
        assert same_state(twin, getattr(model, name))
    with refuses("method", model.method, "GAN"):
        small_gan(ema_halflife=64.0).on_load_checkpoint(content)
    other = next(other for other in METHODS.values() if other is not make)
    with refuses("method", model.method):
        other(ema_halflife=64.0).on_load_checkpoint(content)


def test_a_checkpoint_without_a_method_is_a_gan_s(tmp_path: Path) -> None:
    fit(small_gan(), max_steps=1).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    assert checkpoint.method(content) == "GAN"
    del content[checkpoint.KEY]["method"]
    assert checkpoint.method(content) == "GAN"
    small_gan().on_load_checkpoint(content)
    with refuses("method", "GAN"):
        small_translation().on_load_checkpoint(content)


@each_method
@pytest.mark.parametrize("which", ["generator", "discriminator"])
def test_nan_ends_the_run(make: Callable[..., AdversarialModule], which: str) -> None:
    class Break(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 3:
                with torch.no_grad():
                    next(getattr(pl_module, which).parameters()).view(-1)[0] = float("nan")

    model = make()
    with pytest.raises(Diverged):
        fit(model, pairs(), callbacks=[Break(), TrainingLog()], max_steps=10, log_every_n_steps=5)
    with pytest.raises(Diverged, match="NaN"):
        model.require_finite()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"l1_weight": -1.0}, "l1_weight is -1"),
        ({"adversarial_weight": float("nan")}, "adversarial_weight is nan"),
        ({"perceptual_weight": float("inf")}, "perceptual_weight is inf"),
        ({"adversarial_weight": 0.0, "l1_weight": 0.0}, "all 0"),
        ({"ema_halflife": -1.0}, "ema_halflife is -1"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], named: str) -> None:
    with refuses(named):
        small_translation(**arguments)


def test_labels_and_four_channels_are_refused() -> None:
    with refuses("conditioning of MLPDiscriminator is projection"):
        PairedTranslation(
            UNetGenerator(SHAPE, SHAPE, width=4),
            MLPDiscriminator(SHAPE, 10, hidden=[8], conditioning="projection"),
            NonSaturatingLoss(),
        )
    shape = (4, 8, 8)
    with refuses("4 channels"):
        PairedTranslation(Affine(shape, shape), Mean(shape), NonSaturatingLoss(), perceptual_weight=1.0)
