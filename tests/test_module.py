"""The base of adversarial methods: counting, averages, seeds, and checkpoints."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Optimizer, RMSprop

from gan_lightning import checkpoint, files
from gan_lightning.augment import AdaptiveAugment
from gan_lightning.callbacks import Schedules, TrainingLog
from gan_lightning.data import Digits
from gan_lightning.errors import Diverged
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.module import AdversarialModule, frozen
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from gan_lightning.regularizers import R1, LeCam
from gan_lightning.schedules import LinearSchedule
from tests.helpers import fit, refuses, same_state, small_gan


class TwoPairs(AdversarialModule):
    """Another method: two generators and two discriminators."""

    generators: ClassVar[dict[str, str]] = {"generator": "ema", "second_generator": "second_ema"}
    discriminators = ("discriminator", "second_discriminator")
    generator: MLPGenerator
    second_generator: MLPGenerator
    discriminator: MLPDiscriminator
    second_discriminator: MLPDiscriminator

    def __init__(self, width: int = 8, **arguments: Any) -> None:
        networks = {
            "generator": MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8]),
            "second_generator": MLPGenerator((1, 8, 8), latent_dim=4, hidden=[width]),
            "discriminator": MLPDiscriminator((1, 8, 8), hidden=[8]),
            "second_discriminator": MLPDiscriminator((1, 8, 8), hidden=[width]),
        }
        super().__init__(networks, **arguments)

    def training_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> dict[str, Tensor]:
        images, loss = batch[0], NonSaturatingLoss()
        generator_optimizer, discriminator_optimizer = self.optimizer_pair()
        pairs = [(self.generator, self.discriminator), (self.second_generator, self.second_discriminator)]
        z = torch.randn(len(images), 4)
        discriminator_loss = torch.stack([loss.discriminator(d(images), d(g(z).detach())) for g, d in pairs]).sum()
        discriminator_optimizer.zero_grad()
        self.manual_backward(discriminator_loss)
        discriminator_optimizer.step()
        with frozen(self.discriminator), frozen(self.second_discriminator):
            generator_loss = torch.stack([loss.generator(None, d(g(z))) for g, d in pairs]).sum()
            generator_optimizer.zero_grad()
            self.manual_backward(generator_loss)
        generator_optimizer.step()
        self.update_averages(len(images))
        return {"discriminator_loss": discriminator_loss.detach(), "generator_loss": generator_loss.detach()}


def test_a_method_with_more_networks(tmp_path: Path) -> None:
    """One optimizer per side updates them all, one step is counted, and each generator has its own average."""

    class Keep(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
            before.update({name: value.clone() for name, value in pl_module.state_dict().items()})

    before: dict[str, Tensor] = {}
    model = TwoPairs(ema_halflife=64.0, ema_ramp=None)
    trainer = fit(model, callbacks=[count := CountUpdates(), TrainingLog(), Keep()], max_steps=3)
    assert trainer.global_step == 3
    assert count.updates == [3, 3]
    after = model.state_dict()
    for name in (*model.generators, *model.discriminators):
        weights = [f"{name}.{weight}" for weight, _ in getattr(model, name).named_parameters()]
        assert not any(torch.equal(after[weight], before[weight]) for weight in weights)
    for name, average in model.generators.items():
        for weight, _ in getattr(model, name).named_parameters():
            expected = (before[f"{average}.{weight}"] + after[f"{name}.{weight}"]) / 2
            assert torch.allclose(after[f"{average}.{weight}"], expected, atol=1e-6)
        assert not getattr(model.train(), average).training
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    model.on_load_checkpoint(content)
    with refuses("second_generator", [8], [9]):
        TwoPairs(width=9, ema_halflife=64.0).on_load_checkpoint(content)
    assert fit(TwoPairs(ema_halflife=64.0), ckpt_path=tmp_path / "a.ckpt", max_steps=5).global_step == 5


@pytest.mark.parametrize("name", ["generator", "second_generator", "discriminator", "second_discriminator"])
def test_a_network_with_nonfinite_weights_is_named(name: str) -> None:
    model = TwoPairs()
    model.require_finite()
    with torch.no_grad():
        next(getattr(model, name).parameters()).view(-1)[-1] = float("inf")
    with pytest.raises(Diverged, match=rf"the {name}'s"):
        model.require_finite()


def test_frozen_lets_gradients_through_and_restores_what_was_trained() -> None:
    network = MLPDiscriminator((1, 8, 8), hidden=[8])
    bias = network.get_parameter("layers.0.bias").requires_grad_(False)
    images = torch.randn(2, 1, 8, 8, requires_grad=True)
    with frozen(network):
        network(images).sum().backward()
    assert images.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(KeyError), frozen(network):
        raise KeyError
    assert [parameter for parameter in network.parameters() if not parameter.requires_grad] == [bias]


class CountUpdates(Callback):
    """Counts the steps of each optimizer."""

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
    assert files.load(tmp_path / "last.ckpt")["global_step"] == 100


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


def test_seeds_repeat_a_run_to_the_last_bit() -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = small_gan(ema_halflife=100.0)
        fit(model, Digits(batch_size=64, horizontal_flip=True), max_steps=20)
        models.append(model)
    assert same_state(models[0], models[1])
    assert not same_state(models[0], models[2])


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    """The error names what differs, and both values."""
    trainer = fit(small_gan(), max_steps=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    small_gan().on_load_checkpoint(content)
    with refuses("ema", False, True):
        small_gan(ema_halflife=10.0).on_load_checkpoint(content)
    with refuses("optimizers", "['Adam', 'Adam']", "['RMSprop', 'Adam']"):
        small_gan(generator_optimizer=RMSprop).on_load_checkpoint(content)
    other = GAN(MLPGenerator((1, 8, 8), hidden=[9]), MLPDiscriminator((1, 8, 8), hidden=[8]), NonSaturatingLoss())
    with refuses("generator", "hidden [8]", "[9]", "latent_dim 4", "100"):
        other.on_load_checkpoint(content)


def test_the_checkpoint_holds_no_hyper_parameters(tmp_path: Path) -> None:
    fit(small_gan(), max_steps=1).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert "hyper_parameters" not in files.load(tmp_path / "a.ckpt")


def test_a_checkpoint_with_other_stateful_penalties_is_refused(tmp_path: Path) -> None:
    fit(small_gan(penalty=LeCam()), max_steps=1).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = checkpoint.load_gan(tmp_path / "a.ckpt")
    small_gan(penalty=LeCam(weight=1.0)).on_load_checkpoint(content)
    with refuses("state", "penalties.0.real_average", "[]"):
        small_gan(penalty=R1()).on_load_checkpoint(content)


def test_adapted_values_are_resumed(tmp_path: Path) -> None:
    """Check the averages of LeCam, the probability of ADA and the schedules at the start of a resumed run."""

    def run(steps: int, *callbacks: Callback, **arguments: Any) -> Trainer:
        torch.manual_seed(0)
        augment = AdaptiveAugment(images=300, every=2, target=0.01)
        augment.probability.fill_(0.5)
        model = small_gan(penalty=[LeCam(), R1()], augmentation=augment)
        schedules = Schedules(learning_rate=LinearSchedule(10), penalty=LinearSchedule(10))
        return fit(model, callbacks=[schedules, *callbacks], max_steps=steps, **arguments)

    run(3).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    half = files.load(tmp_path / "a.ckpt")["state_dict"]
    assert 0 < float(half["augmentation.probability"]) != 0.5
    seen: dict[str, Any] = {}

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
            assert isinstance(pl_module, GAN)
            if not seen:
                seen.update({name: value.clone() for name, value in pl_module.state_dict().items() if name in half})
                seen["lr"] = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
                seen["penalty"] = float(pl_module.penalty_factor)

    run(6, Look(), ckpt_path=tmp_path / "a.ckpt")
    assert seen.pop("lr") == pytest.approx([2e-4 * 0.7] * 2)
    assert seen.pop("penalty") == pytest.approx(0.7)
    assert len(seen) == len(half)
    assert all(torch.equal(value, half[name]) for name, value in seen.items())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"ema_halflife": -1.0}, "ema_halflife is -1"),
        ({"ema_halflife": float("nan")}, "ema_halflife is nan"),
        ({"ema_ramp": 0.0}, "ema_ramp is 0"),
        ({"ema_ramp": float("inf")}, "ema_ramp is inf"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, Any], named: str) -> None:
    with refuses(named):
        small_gan(**arguments)


def test_other_random_numbers_do_not_change_a_run() -> None:
    """Each step has its own seed, a function of the run's seed and the step."""

    class Draw(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            torch.rand(1)

        def on_train_batch_end(self, *_: Any) -> None:
            torch.rand(2)

    torch.manual_seed(0)
    fit(alone := small_gan(), max_steps=3)
    torch.manual_seed(0)
    fit(disturbed := small_gan(), callbacks=[Draw()], max_steps=3)
    assert same_state(alone, disturbed)


def test_a_resumed_run_uses_its_own_optimizer_settings(tmp_path: Path) -> None:
    """They replace those of the checkpoint; the optimizer's state of each weight stays."""

    def sgd(learning_rate: float) -> Any:
        def make(parameters: Iterable[Parameter]) -> Optimizer:
            return SGD(parameters, lr=learning_rate, momentum=0.9)

        return make

    fit(small_gan(generator_optimizer=sgd(0.1)), max_steps=2).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    saved = files.load(tmp_path / "a.ckpt")["optimizer_states"][0]
    seen: list[dict[str, Any]] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            seen.append(copy.deepcopy(trainer.optimizers[0].state_dict()))

    fit(small_gan(generator_optimizer=sgd(0.2)), callbacks=[Look()], max_steps=3, ckpt_path=tmp_path / "a.ckpt")
    assert saved["param_groups"][0]["lr"] == 0.1
    assert seen[0]["param_groups"][0]["lr"] == 0.2
    for weight, state in saved["state"].items():
        assert torch.equal(seen[0]["state"][weight]["momentum_buffer"], state["momentum_buffer"])


def test_adam_is_as_if_it_was_made_fused() -> None:
    model = small_gan()
    made = torch.optim.Adam(model.generator.parameters(), fused=True)
    for optimizer in model.configure_optimizers():
        assert vars(optimizer).keys() == vars(made).keys()
        assert optimizer.param_groups[0].keys() == made.param_groups[0].keys()
        assert optimizer._step_supports_amp_scaling is made._step_supports_amp_scaling is True  # type: ignore[attr-defined]
