"""The health monitor of translations reports runs that are made to fail, and no healthy ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gan_lightning.callbacks import Checkpoints, TranslationHealth
from gan_lightning.checkpoint import load_gan
from gan_lightning.data import Derived, Digits
from gan_lightning.data.degradations import TurnedNegative
from gan_lightning.losses import RelativisticPairingLoss
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import PatchDiscriminator, UNetGenerator
from gan_lightning.regularizers import R1
from gan_lightning.translation import PairedTranslation
from tests.helpers import fit, refuses, same_state
from tests.translators import SHAPE, Affine, Mean, small_cycle, small_translation


def data(paired: bool = True) -> Derived:
    return Derived(Digits, TurnedNegative(), paired=paired, batch_size=16)


def batch_norms(**arguments: Any) -> PairedTranslation:
    """Make pix2pix with running moments."""
    return PairedTranslation(
        UNetGenerator(SHAPE, SHAPE, width=4, norm="batch"),
        PatchDiscriminator(SHAPE, source_shape=SHAPE, width=4, layers=1),
        RelativisticPairingLoss(),
        penalty=R1(),
        **arguments,
    )


@pytest.mark.parametrize("make", [batch_norms, small_cycle])
def test_measuring_does_not_change_the_training(make: Callable[..., AdversarialModule]) -> None:
    def trained(*callbacks: Callback) -> AdversarialModule:
        torch.manual_seed(0)
        model = make(ema_halflife=500.0)
        fit(model, data(), [*callbacks], max_steps=4)
        return model

    monitor = TranslationHealth(every_n_steps=2)
    assert same_state(trained(monitor), trained())
    assert monitor.measured == 2
    assert set(monitor.latest) == {
        *("real_logits", "fake_logits", "held_out_logits", "separation", "overfitting"),
        *("source_diversity", "adversarial_share", "saturation", "generator_gradient_norm"),
    }


class Fixed(Callback):
    """Give the generator fixed weights after each step."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        generator = pl_module.generator
        assert isinstance(generator, Affine)
        with torch.no_grad():
            generator.scale.fill_(self.scale)


@pytest.mark.parametrize(("scale", "ignored"), [(-0.08, True), (-0.12, False), (-1.0, False)])
def test_a_generator_that_ignores_its_source_is_named(scale: float, ignored: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Negatives are as diverse as their targets, so the generator -s x has s times that diversity."""
    monitor = TranslationHealth(every_n_steps=1)
    model = PairedTranslation(Affine(), Mean(source_shape=SHAPE), small_translation().loss, l1_weight=0.01)
    fit(model, data(), [Fixed(scale), monitor], max_steps=6)
    assert monitor.latest["source_diversity"] == pytest.approx(abs(scale), rel=1e-4)
    assert ("ignored source" in monitor.reported) == ignored
    assert ("step 5: the generator ignores its source" in capsys.readouterr().out) == ignored


@pytest.mark.parametrize(("l1_weight", "ignored"), [(40.0, False), (60.0, True)])
def test_a_discriminator_that_is_ignored_is_named(l1_weight: float, ignored: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """D(y) = a mean(y) + b has a gradient of a / 64 at each of 64 pixels. With N images, that of the L1 is w / (64 N)."""
    monitor = TranslationHealth(every_n_steps=1)
    model = PairedTranslation(Affine(), Mean(), small_translation().loss, l1_weight=l1_weight)
    fit(model, data(), [monitor], max_steps=5)
    assert isinstance(model.discriminator, Mean)
    slope = float(model.discriminator.weight.detach())
    chance = torch.sigmoid(-torch.tensor(monitor.latest["fake_logits"]))  # the loss's derivative, nearly that of all images
    assert monitor.latest["adversarial_share"] == pytest.approx(float(slope * chance) / l1_weight, rel=0.1)
    assert ("ignored discriminator" in monitor.reported) == ignored
    assert ("--model.l1_weight" in capsys.readouterr().out) == ignored


def test_losses_without_weight_are_no_symptom() -> None:
    monitor = TranslationHealth(every_n_steps=1)
    fit(small_translation(adversarial_weight=0.0), data(), [monitor], max_steps=5)
    assert "adversarial_share" not in monitor.latest
    fit(small_translation(l1_weight=0.0), data(), [monitor := TranslationHealth(every_n_steps=1)], max_steps=5)
    assert monitor.latest["adversarial_share"] != monitor.latest["adversarial_share"]  # NaN
    assert "ignored discriminator" not in monitor.reported


def test_healthy_runs_have_no_symptom(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = PairedTranslation(
        UNetGenerator(SHAPE, SHAPE, width=16),
        PatchDiscriminator(SHAPE, source_shape=SHAPE, width=16, layers=1),
        small_translation().loss,
    )
    monitor = TranslationHealth(every_n_steps=20)
    fit(model, data(), [monitor, Checkpoints()], max_steps=120, enable_checkpointing=True)
    assert capsys.readouterr().out == ""
    assert monitor.latest["source_diversity"] > 0.2
    assert 0.02 < monitor.latest["adversarial_share"] < 2
    assert load_gan("checkpoints/healthy.ckpt")["global_step"] == 89  # at an epoch's end


def test_stop_ends_the_run() -> None:
    model = PairedTranslation(Affine(), Mean(source_shape=SHAPE), small_translation().loss)
    trainer = fit(model, data(), [Fixed(0.0), TranslationHealth(every_n_steps=1, stop=True)], max_steps=50)
    assert trainer.global_step == 5
    with refuses("health.every_n_steps", -1):
        TranslationHealth(every_n_steps=-1)


def test_targets_and_sources_that_are_no_pairs() -> None:
    class NoPairs(Derived):
        has_pairs = False

        def sources_at(self, split: Any, indices: Tensor) -> Tensor:
            return super().pairs_at(split, indices)[1]

    unpaired = NoPairs(Digits, TurnedNegative(), paired=False, batch_size=16)
    monitor = TranslationHealth(every_n_steps=1)
    fit(small_cycle(), unpaired, [monitor], max_steps=1)
    assert monitor.latest["source_diversity"] > 0
