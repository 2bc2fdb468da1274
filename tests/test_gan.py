"""The adversarial step and what it promises."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.optim import SGD, RMSprop

from gan_lightning import checkpoint
from gan_lightning.augment import AdaptiveAugment
from gan_lightning.callbacks import Schedules, TrainingLog
from gan_lightning.data import Digits
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import MinimaxLoss, NonSaturatingLoss, RelativisticPairingLoss, WassersteinLoss
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from gan_lightning.randomness import derived_seed
from gan_lightning.regularizers import R1, Constraint, LeCam, WeightClipping
from gan_lightning.schedules import LinearSchedule
from tests.helpers import fit, same_state, small_gan


class CountUpdates(Callback):
    """Counts the steps that each optimizer really makes."""

    def __init__(self) -> None:
        self.updates = [0, 0]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for i, optimizer in enumerate(trainer.optimizers):
            optimizer.register_step_post_hook(lambda *_, i=i: self._count(i))

    def _count(self, i: int) -> None:
        self.updates[i] += 1


@pytest.mark.parametrize("discriminator_steps", [1, 3])
def test_every_counter_counts_generator_updates(discriminator_steps: int, tmp_path: Path) -> None:
    count, logger = CountUpdates(), CSVLogger(tmp_path, name="", version="")
    model = small_gan(discriminator_steps=discriminator_steps, ema_halflife=1000.0)
    trainer = fit(model, callbacks=[count, TrainingLog()], max_steps=100, logger=logger, log_every_n_steps=20)
    assert count.updates == [100, 100 * discriminator_steps]
    assert trainer.global_step == 100
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    step = rows[0].split(",").index("step")
    assert [int(row.split(",")[step]) for row in rows[1:]] == [20, 40, 60, 80, 100]
    trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    assert checkpoint.load(tmp_path / "last.ckpt")["global_step"] == 100


def test_an_epoch_is_the_data_over_what_a_step_takes() -> None:
    for steps in (1, 2):
        trainer = fit(small_gan(discriminator_steps=steps), max_epochs=2)
        assert trainer.global_step == 2 * (1437 // (64 * steps))


class RecordInputs(MLPDiscriminator):
    """Remembers the real images it was trained on."""

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


def test_both_networks_see_the_same_images_where_fakes_are_reused() -> None:
    """Those of the discriminator's last update, and, for a loss that looks at them, its real ones."""
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
def test_the_generator_step_leaves_the_discriminator_alone(precision: str) -> None:
    model = small_gan()
    frozen = model.discriminator.get_parameter("layers.0.bias")
    frozen.requires_grad_(False)  # by a user who fine-tunes
    kept: dict[str, Any] = {}

    class Watch(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            step = model._generator_step

            def watched(real: Tensor, fake: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
                before = [None if p.grad is None else p.grad.clone() for p in model.discriminator.parameters()]
                weights = [p.clone() for p in model.discriminator.parameters()]
                outputs = step(real, fake, labels)
                after = [p.grad for p in model.discriminator.parameters()]
                kept["same"] = all(
                    a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(before, after, strict=True)
                )
                kept["weights"] = all(torch.equal(a, b) for a, b in zip(weights, model.discriminator.parameters(), strict=True))
                return outputs

            model._generator_step = watched  # type: ignore[method-assign]

    fit(model, callbacks=[Watch()], max_steps=2, precision=precision)
    assert kept == {"same": True, "weights": True}
    assert not frozen.requires_grad
    assert all(p.requires_grad for name, p in model.discriminator.named_parameters() if name != "layers.0.bias")


@pytest.mark.parametrize("reuse_fakes", [False, True])
def test_one_step_against_the_same_step_written_by_hand(reuse_fakes: bool) -> None:
    """Both updates of a whole step, with plain SGD, from the same weights, images and latents."""

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
    seen: list[Tensor] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
            seen.append(batch[0])

    fit(model, Digits(batch_size=8), callbacks=[Look()], max_steps=1)

    torch.manual_seed(derived_seed(model.seed, 0, 0))
    z = torch.randn(8, 4)
    probability_real, probability_fake = discriminator(seen[0]).sigmoid(), discriminator(generator(z).detach()).sigmoid()
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


def test_mixed_precision_sees_the_weights_of_after_a_step() -> None:
    """Autocast may keep copies of the weights until the step's end, and the second update would see those of before the first.

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
    assert abs(losses["32-true"][0] - losses["32-true"][1]) > 0.2  # so that stale weights would show


def test_one_pass_over_both_equals_two_where_samples_are_independent() -> None:
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


def test_the_average_follows_its_half_life_in_images() -> None:
    """With a half-life of one batch, the average after a step is halfway between the old one and the weights."""
    model = small_gan(ema_halflife=64.0, ema_ramp=None)
    assert model.ema is not None
    start = {name: p.clone() for name, p in model.ema.named_parameters()}
    fit(model, Digits(batch_size=64), max_steps=1)
    for name, p in model.ema.named_parameters():
        assert torch.allclose(p, (start[name] + dict(model.generator.named_parameters())[name]) / 2, atol=1e-7)
    assert not model.ema.training


def test_the_half_life_ramps_with_the_images_seen() -> None:
    """The average is the generator after the first update, and keeps its whole half-life from the fifth update on."""
    weights: list[list[Tensor]] = []
    averages: list[list[Tensor]] = []

    class Keep(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            assert isinstance(pl_module, GAN)
            assert pl_module.ema is not None
            for kept, network in ((weights, pl_module.generator), (averages, pl_module.ema)):
                kept.append([p.detach().clone() for p in network.parameters()])

    fit(small_gan(ema_halflife=128.0, ema_ramp=0.5), Digits(batch_size=64), callbacks=[Keep()], max_steps=8)
    assert all(torch.equal(*pair) for pair in zip(weights[0], averages[0], strict=True))
    for step, kept in enumerate([1 / 4, 1 / 2, 2 ** (-2 / 3), *[2 ** (-1 / 2)] * 4], 1):
        for before, average, weight in zip(averages[step - 1], averages[step], weights[step], strict=True):
            assert torch.allclose(average, kept * before + (1 - kept) * weight, atol=1e-6)
        assert not torch.equal(averages[step][0], weights[step][0])


def test_no_average_by_default() -> None:
    model = small_gan()
    assert model.ema is None
    assert model.sampler is model.generator


def test_sampling_uses_the_average_in_eval_mode_and_leaves_the_mode() -> None:
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


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    trainer = fit(small_gan(), max_steps=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    small_gan().on_load_checkpoint(content)
    with pytest.raises(InputError, match="ema differs: False there and True here"):
        small_gan(ema_halflife=10.0).on_load_checkpoint(content)
    with pytest.raises(InputError, match=r"optimizers differs: \['Adam', 'Adam'\] there and \['RMSprop', 'Adam'\] here"):
        small_gan(generator_optimizer=RMSprop).on_load_checkpoint(content)
    other = GAN(MLPGenerator((1, 8, 8), hidden=[9]), MLPDiscriminator((1, 8, 8), hidden=[8]), NonSaturatingLoss())
    with pytest.raises(
        InputError, match=r"generator differs: arguments hidden \[8\] there and \[9\] here, latent_dim 4 there and None here"
    ):
        other.on_load_checkpoint(content)


def test_the_checkpoint_holds_no_hyper_parameters(tmp_path: Path) -> None:
    fit(small_gan(), max_steps=1).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert "hyper_parameters" not in checkpoint.load(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discriminator_steps": 0}, "discriminator_steps is 0"),
        ({"ema_halflife": -1.0}, "ema_halflife is -1"),
        ({"ema_halflife": float("nan")}, "ema_halflife is nan"),
        ({"ema_ramp": 0.0}, "ema_ramp is 0"),
        ({"ema_ramp": float("inf")}, "ema_ramp is inf"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_gan(**arguments)


def test_both_networks_are_conditional_or_neither() -> None:
    with pytest.raises(InputError, match="give both one, or neither"):
        GAN(
            MLPGenerator((1, 8, 8), 10, hidden=[8], conditioning="concatenation"),
            MLPDiscriminator((1, 8, 8), 10, hidden=[8]),
            NonSaturatingLoss(),
        )


def test_seeds_repeat_a_run_to_the_last_bit() -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = small_gan(ema_halflife=100.0)
        fit(model, Digits(batch_size=64, horizontal_flip=True), max_steps=20)
        models.append(model)
    assert same_state(models[0], models[1])
    assert not same_state(models[0], models[2])


def test_an_auxiliary_classifier_by_hand() -> None:
    """One step with plain SGD: D minimises its loss and the cross-entropy of both kinds, G its loss and that of its own."""

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
    seen: list[tuple[Tensor, Tensor]] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
            seen.append(batch)

    fit(model, Digits(batch_size=8), callbacks=[Look()], max_steps=1)
    ((real, labels),) = seen

    def negative_log_likelihood(images: Tensor) -> Tensor:
        scores = discriminator.judge(images)[1]
        assert scores is not None
        return -scores.log_softmax(1)[torch.arange(8), labels].mean()

    torch.manual_seed(derived_seed(model.seed, 0, 0))
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
    """It is called once an update; and at its end every weight lies within, some of them at the limit."""
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


def test_a_checkpoint_of_other_penalties_that_remember_is_refused(tmp_path: Path) -> None:
    fit(small_gan(penalty=LeCam()), max_steps=1).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    small_gan(penalty=LeCam(weight=1.0)).on_load_checkpoint(content)
    with pytest.raises(InputError, match=r"state differs: .*penalties.0.real_average.* there and \[\] here"):
        small_gan(penalty=R1()).on_load_checkpoint(content)


def test_what_adapts_goes_on_where_it_was(tmp_path: Path) -> None:
    """The averages of LeCam, the probability of ADA and the schedules, as a resumed run begins."""

    def run(steps: int, *callbacks: Callback, **arguments: Any) -> Trainer:
        torch.manual_seed(0)
        augment = AdaptiveAugment(images=300, every=2, target=0.01)
        augment.probability.fill_(0.5)
        model = small_gan(penalty=[LeCam(), R1()], augmentation=augment)
        schedules = Schedules(learning_rate=LinearSchedule(10), penalty=LinearSchedule(10))
        return fit(model, callbacks=[schedules, *callbacks], max_steps=steps, **arguments)

    run(3).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    half = checkpoint.load(tmp_path / "a.ckpt")["state_dict"]
    assert 0 < float(half["augmentation.probability"]) != 0.5
    seen: dict[str, Any] = {}

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
            assert isinstance(pl_module, GAN)
            if not seen:
                seen.update({name: value.clone() for name, value in pl_module.state_dict().items() if name in half})
                seen["lr"] = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
                seen["penalty"] = pl_module.penalty_factor

    run(6, Look(), ckpt_path=tmp_path / "a.ckpt")
    assert seen.pop("lr") == pytest.approx([2e-4 * 0.7] * 2)
    assert seen.pop("penalty") == pytest.approx(0.7)
    assert len(seen) == len(half)
    assert all(torch.equal(value, half[name]) for name, value in seen.items())
