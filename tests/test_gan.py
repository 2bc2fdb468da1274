"""Contracts of the adversarial step."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import SGD

from gan_lightning.data import Digits
from gan_lightning.gan import GAN
from gan_lightning.losses import MinimaxLoss, NonSaturatingLoss, RelativisticPairingLoss, WassersteinLoss
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from gan_lightning.regularizers import Constraint, WeightClipping
from gan_lightning.training.randomness import derived_seed
from tests.helpers import Batches, fit, refuses, small_gan


def test_length_of_an_epoch() -> None:
    for steps in (1, 2):
        trainer = fit(small_gan(discriminator_steps=steps), max_epochs=2)
        assert trainer.global_step == 2 * (1437 // (64 * steps))


@pytest.mark.parametrize("conditioning", [None, "concatenation"])
def test_large_samples_are_drawn_a_few_at_a_time(conditioning: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are those of one pass."""
    generator = MLPGenerator((1, 8, 8), 10, hidden=[8], conditioning=conditioning)
    model = GAN(generator, MLPDiscriminator((1, 8, 8), 10, hidden=[8], conditioning=conditioning), NonSaturatingLoss())
    z, labels = torch.randn(7, model.generator.latent_dim), torch.arange(7) if conditioning else None
    sizes: list[int] = []
    model.generator.register_forward_pre_hook(lambda generator, inputs: sizes.append(len(inputs[0])))
    at_once = model.sample(z, labels)
    monkeypatch.setattr("gan_lightning.gan.PIXELS_AT_ONCE", 3 * 8 * 8 + 1)
    assert torch.equal(model.sample(z, labels), at_once)
    monkeypatch.setattr("gan_lightning.gan.PIXELS_AT_ONCE", 1)
    assert torch.equal(model.sample(z, labels), at_once)
    assert sizes == [7, 3, 3, 1, *[1] * 7]


class RecordInputs(MLPDiscriminator):
    """Keeps the real images of its training."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.samples_are_independent = False
        self.seen: list[Tensor] = []

    def features(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return super().features(images)


def test_each_update_sees_fresh_real_images() -> None:
    model = small_gan(RelativisticPairingLoss(), discriminator_steps=2)
    model.discriminator = recorder = RecordInputs((1, 8, 8), hidden=[8])
    fit(model, Digits(batch_size=16), max_steps=1)
    assert model.real_batches_per_step == 3
    real_first, _, real_second, _, real_third, _ = recorder.seen  # each D step: real, fake; G step: real, fake
    for one, other in ((real_first, real_second), (real_second, real_third), (real_first, real_third)):
        assert one.shape == (16, 1, 8, 8)
        assert not torch.equal(one, other)


def test_both_networks_see_the_same_images_with_reused_fakes() -> None:
    """They are those of the discriminator's last update, including real ones if the loss uses them."""
    model = small_gan(RelativisticPairingLoss(), discriminator_steps=2, reuse_fakes=True)
    model.discriminator = recorder = RecordInputs((1, 8, 8), hidden=[8])
    fit(model, Digits(batch_size=16), max_steps=1)
    assert model.real_batches_per_step == 2
    real_first, fake_first, real_second, fake_second, real_third, fake_third = recorder.seen
    assert torch.equal(real_second, real_third)
    assert torch.equal(fake_second, fake_third)
    assert not torch.equal(real_first, real_second)
    assert not torch.equal(fake_first, fake_second)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_generator_step_does_not_change_the_discriminator(precision: str) -> None:
    model = small_gan()
    frozen = model.discriminator.get_parameter("layers.0.bias")
    frozen.requires_grad_(False)  # by a user who fine-tunes
    kept: dict[str, Any] = {}

    class Watch(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            step = model._generator_step

            def watched(*args: Any) -> dict[str, Tensor]:
                before = [None if p.grad is None else p.grad.clone() for p in model.discriminator.parameters()]
                weights = [p.clone() for p in model.discriminator.parameters()]
                outputs = step(*args)
                after = [p.grad for p in model.discriminator.parameters()]
                kept["same"] = all(
                    a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(before, after, strict=True)
                )
                kept["weights"] = all(torch.equal(a, b) for a, b in zip(weights, model.discriminator.parameters(), strict=True))
                return outputs

            model._generator_step = watched  # type: ignore[assignment, method-assign]

    fit(model, callbacks=[Watch()], max_steps=2, precision=precision)
    assert kept == {"same": True, "weights": True}
    assert not frozen.requires_grad
    assert all(p.requires_grad for name, p in model.discriminator.named_parameters() if name != "layers.0.bias")


@pytest.mark.parametrize("reuse_fakes", [False, True])
def test_one_step_against_the_same_step_written_by_hand(reuse_fakes: bool) -> None:
    """Compare both updates of a step with plain SGD, from the same weights, images and latents."""

    def sgd(parameters: Any) -> SGD:
        return SGD(parameters, lr=0.1)

    model = GAN(
        MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8], batch_norm=False),
        MLPDiscriminator((1, 8, 8), hidden=[8]),
        MinimaxLoss(),
        sgd,
        sgd,
        reuse_fakes=reuse_fakes,
    )
    generator = MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8], batch_norm=False)
    discriminator = MLPDiscriminator((1, 8, 8), hidden=[8])
    generator.load_state_dict(model.generator.state_dict())
    discriminator.load_state_dict(model.discriminator.state_dict())
    fit(model, Digits(batch_size=8), callbacks=[batches := Batches()], max_steps=1)
    ((real, _),) = batches.seen

    torch.manual_seed(derived_seed("step", model.seed, 0, 0))
    z = torch.randn(8, 4)
    probability_real, probability_fake = discriminator(real).sigmoid(), discriminator(generator(z).detach()).sigmoid()
    (-probability_real.log().mean() - (1 - probability_fake).log().mean()).backward()
    with torch.no_grad():
        for p in discriminator.parameters():
            assert p.grad is not None
            p.sub_(0.1 * p.grad)
    z = z if reuse_fakes else torch.randn(8, 4)
    generator.zero_grad()
    (1 - discriminator(generator(z)).sigmoid()).log().mean().backward()
    with torch.no_grad():
        for p in generator.parameters():
            assert p.grad is not None
            p.sub_(0.1 * p.grad)
    for ours, by_hand in ((model.generator, generator), (model.discriminator, discriminator)):
        for mine, theirs in zip(ours.parameters(), by_hand.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)  # usually within 1e-8


def test_mixed_precision_uses_updated_weights() -> None:
    """Autocast may cache casts of the weights until the end of the step, so the second update would use old ones.

    Lightning switches that off, and this holds it. With a learning rate of 0.5, the losses of both updates of the
    discriminator and that of the generator against those of float32: rounding to bfloat16 moves them by up to 0.02, stale
    weights by 0.2 and more.
    """

    def sgd(parameters: Any) -> SGD:
        return SGD(parameters, lr=0.5)

    losses: dict[str, list[float]] = {}

    class Record(NonSaturatingLoss):
        def __init__(self, kept: list[float]) -> None:
            self.kept = kept

        def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
            loss = super().discriminator(real_logits, fake_logits)
            self.kept.append(float(loss.detach()))
            return loss

        def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
            loss = super().generator(real_logits, fake_logits)
            self.kept.append(float(loss.detach()))
            return loss

    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        losses[precision] = []
        model = small_gan(Record(losses[precision]), discriminator_steps=2)
        model.generator_optimizer = model.discriminator_optimizer = sgd
        fit(model, max_steps=1, precision=precision)
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], abs=0.05)
    assert abs(losses["32-true"][0] - losses["32-true"][1]) > 0.2  # so that stale weights would be visible


def test_one_pass_equals_two_if_samples_are_independent() -> None:
    torch.manual_seed(0)
    one = small_gan()
    torch.manual_seed(0)
    two = small_gan()
    assert one.discriminator.samples_are_independent
    two.discriminator.samples_are_independent = False
    for model in (one, two):
        torch.manual_seed(1)
        fit(model, max_steps=5)
    for mine, theirs in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_no_average_by_default() -> None:
    model = small_gan()
    assert model.ema is None
    assert model.sampler is model.generator


def test_sampling_uses_the_average_in_eval_mode_and_restores_the_mode() -> None:
    model = small_gan(ema_halflife=64.0, ema_ramp=None)
    fit(model, max_steps=3)
    model.train()
    z = torch.randn(6, 4)
    images = model.sample(z)
    assert images.dtype == torch.uint8
    assert model.generator.training
    alone = torch.cat([model.sample(z[i : i + 1]) for i in range(6)])  # batch norm in train mode would differ
    assert (images.int() - alone.int()).abs().max() <= 1
    model.ema = None
    assert not torch.equal(model.sample(z), images)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("ignore:.*16-mixed.*")
def test_precisions_train(precision: str) -> None:
    model = GAN(DCGANGenerator((1, 8, 8), width=8), DCGANDiscriminator((1, 8, 8), width=8), NonSaturatingLoss())
    before = [p.clone() for p in model.parameters()]
    fit(model, max_steps=3, precision=precision)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert sum(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)) > len(before) / 2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_precisions_train_on_cuda(precision: str) -> None:
    model = GAN(
        DCGANGenerator((1, 8, 8), width=8), DCGANDiscriminator((1, 8, 8), width=8), NonSaturatingLoss(), ema_halflife=1e3
    )
    trainer = fit(model, max_steps=30, precision=precision, accelerator="gpu", devices=1)
    assert trainer.global_step == 30
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"discriminator_steps": 0}, "discriminator_steps is 0"),
        ({"classification_weight": -0.1}, "classification_weight is -0.1"),
        ({"classification_weight": float("nan")}, "classification_weight is nan"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], named: str) -> None:
    with refuses(named):
        small_gan(**arguments)


def test_only_one_conditional_network_is_refused() -> None:
    with refuses("conditioning is concatenation", None):
        GAN(
            MLPGenerator((1, 8, 8), 10, hidden=[8], conditioning="concatenation"),
            MLPDiscriminator((1, 8, 8), 10, hidden=[8]),
            NonSaturatingLoss(),
        )


def test_an_auxiliary_classifier_by_hand() -> None:
    """One step with plain SGD: D adds the cross-entropy of real and generated images to its loss, G that of its images."""

    def sgd(parameters: Any) -> SGD:
        return SGD(parameters, lr=0.1)

    def networks() -> tuple[MLPGenerator, MLPDiscriminator]:
        torch.manual_seed(0)
        return (
            MLPGenerator((1, 8, 8), 10, latent_dim=4, hidden=[8], batch_norm=False, conditioning="concatenation"),
            MLPDiscriminator((1, 8, 8), 10, hidden=[8], conditioning="classifier"),
        )

    model = GAN(*networks(), NonSaturatingLoss(), sgd, sgd, classification_weight=0.7)
    generator, discriminator = networks()
    fit(model, Digits(batch_size=8), callbacks=[batches := Batches()], max_steps=1)
    ((real, labels),) = batches.seen
    assert labels is not None

    def negative_log_likelihood(images: Tensor) -> Tensor:
        scores = discriminator.judge(images)[1]
        assert scores is not None
        return -scores.log_softmax(1)[torch.arange(8), labels].mean()

    torch.manual_seed(derived_seed("step", model.seed, 0, 0))
    fake = generator(torch.randn(8, 4), labels).detach()
    adversarial = -discriminator(real).sigmoid().log().mean() - (1 - discriminator(fake).sigmoid()).log().mean()
    (adversarial + 0.7 * (negative_log_likelihood(real) + negative_log_likelihood(fake))).backward()
    step(discriminator)
    fake = generator(torch.randn(8, 4), labels)
    (-discriminator(fake).sigmoid().log().mean() + 0.7 * negative_log_likelihood(fake)).backward()
    step(generator)
    for ours, by_hand in ((model.generator, generator), (model.discriminator, discriminator)):
        for mine, theirs in zip(ours.parameters(), by_hand.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)  # usually within 1e-8


def step(network: torch.nn.Module) -> None:
    with torch.no_grad():
        for p in network.parameters():
            if p.grad is not None:
                p.sub_(0.1 * p.grad)


def test_weights_are_clipped_after_each_update_of_the_discriminator() -> None:
    """It is called once per update, and afterwards all weights are within the limit, some at it."""
    clip, calls = WeightClipping(0.02), []

    class Counted(Constraint):
        def __call__(self, discriminator: torch.nn.Module) -> None:
            clip(discriminator)
            calls.append(discriminator)

    model = small_gan(WassersteinLoss(), discriminator_steps=3, constraint=Counted())
    fit(model, max_steps=4)
    assert calls == [model.discriminator] * 12
    largest = max(float(p.detach().abs().max()) for p in model.discriminator.parameters())
    assert largest == pytest.approx(0.02)
    assert max(float(p.detach().abs().max()) for p in model.generator.parameters()) > 0.1
