"""Values that the schedules of a run set, step by step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Adam, RMSprop

from gan_lightning.augment import AdaptiveAugment, Augmentation, DiffAugment
from gan_lightning.callbacks import Schedules
from gan_lightning.data import Digits
from gan_lightning.gan import GAN
from gan_lightning.module import OptimizerCallable
from gan_lightning.regularizers import R1, Critic, DiscriminatorBatch, Penalty
from gan_lightning.schedules import CosineSchedule, LinearSchedule
from tests.helpers import fit, refuses, same_state, small_gan


def adam(learning_rate: float) -> OptimizerCallable:
    return lambda parameters: Adam(parameters, lr=learning_rate, betas=(0.5, 0.9))


def two_scales(**arguments: Any) -> GAN:
    """A generator that learns at 1e-3 and a discriminator that learns at 4e-3."""
    return small_gan(generator_optimizer=adam(1e-3), discriminator_optimizer=adam(4e-3), **arguments)


class Seen(Callback):
    """Scheduled values of each training step, and the weights after it."""

    def __init__(self) -> None:
        self.rates: list[tuple[float, ...]] = []
        self.betas: list[tuple[tuple[float, float], ...]] = []
        self.outputs: list[dict[str, float]] = []
        self.weights: list[tuple[list[Tensor], list[Tensor]]] = []
        self.averages: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        assert isinstance(pl_module, GAN)
        groups = [optimizer.param_groups[0] for optimizer in trainer.optimizers]
        self.rates.append(tuple(group["lr"] for group in groups))
        self.betas.append(tuple(group["betas"] for group in groups))
        self.outputs.append({name: float(value) for name, value in outputs.items()})
        networks = pl_module.generator, pl_module.discriminator
        generator, discriminator = ([p.detach().clone() for p in network.parameters()] for network in networks)
        self.weights.append((generator, discriminator))
        if pl_module.ema is not None:
            self.averages.append([p.clone() for p in pl_module.ema.parameters()])


def run(model: GAN, schedules: Schedules, max_steps: int, data: Digits | None = None, **arguments: Any) -> Seen:
    seen = Seen()
    fit(model, data, callbacks=[schedules, seen], max_steps=max_steps, **arguments)
    return seen


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_learning_rates_fall_together_to_zero_and_stay_there() -> None:
    """Each falls from its own start, over more than one epoch; at 0 neither network changes."""
    schedules = Schedules(learning_rate=LinearSchedule(4))
    seen = run(two_scales(), schedules, 7, Digits(batch_size=512))  # 2 steps an epoch
    factors = [1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert seen.rates == [pytest.approx((1e-3 * f, 4e-3 * f), rel=1e-9, abs=1e-18) for f in factors]
    assert set(seen.betas) == {((0.5, 0.9), (0.5, 0.9))}
    for network in (0, 1):
        moves = [not same(seen.weights[step][network], seen.weights[step + 1][network]) for step in range(6)]
        assert moves == [True, True, True, False, False, False]


@pytest.mark.parametrize("length", [{"max_steps": 6}, {"max_steps": 6, "max_epochs": 9}, {"max_steps": -1, "max_epochs": 3}])
def test_a_schedule_without_steps_ends_with_the_run(length: dict[str, int]) -> None:
    """The first limit counts: 2 updates per epoch, each after 3 of D. The next run may have another length."""
    schedules = Schedules(learning_rate=CosineSchedule(end=0.2), beta2=LinearSchedule(4, 0.9, 0.98))
    for times in (1, 2):
        limits = {name: limit * times for name, limit in length.items() if limit > 0}
        data = Digits(batch_size=239)  # 1,437 images: 2 times 3 batches
        seen = run(two_scales(discriminator_steps=3), schedules, data=data, **{"max_steps": -1, **limits})
        steps = 6 * times
        factors = CosineSchedule(steps, end=0.2)
        assert [rates[0] for rates in seen.rates] == pytest.approx([1e-3 * factors(i) for i in range(steps)], rel=1e-9)
        assert seen.betas[-1][0][1] == seen.betas[4][0][1] == pytest.approx(0.98)  # given steps win
        assert seen.betas[3][0][1] == pytest.approx(0.96)


def test_learning_rates_warm_up() -> None:
    seen = run(two_scales(), Schedules(learning_rate=CosineSchedule(6, warmup=4)), 6)
    factors = [0.25, 0.5, 0.75, 1, 1, 0.5]
    assert seen.rates == [pytest.approx((1e-3 * f, 4e-3 * f), rel=1e-9) for f in factors]


def test_learning_rates_of_several_groups_keep_their_proportion() -> None:
    def grouped(parameters: Any) -> Adam:
        first, *others = parameters
        return Adam([{"params": [first], "lr": 1e-2}, {"params": others}], lr=1e-3)

    model = small_gan(discriminator_optimizer=grouped)
    trainer = fit(model, callbacks=[Schedules(learning_rate=LinearSchedule(4))], max_steps=2)
    assert [group["lr"] for group in trainer.optimizers[1].param_groups] == pytest.approx([7.5e-3, 7.5e-4], rel=1e-9)


def test_beta2_of_both_optimizers() -> None:
    seen = run(two_scales(), Schedules(beta2=LinearSchedule(4, 0.9, 0.98)), 6)
    expected = [0.9, 0.92, 0.94, 0.96, 0.98, 0.98]
    assert [[betas[1] for betas in step] for step in seen.betas] == [pytest.approx([b, b], rel=1e-9) for b in expected]
    assert {betas[0] for step in seen.betas for betas in step} == {0.5}
    assert set(seen.rates) == {(1e-3, 4e-3)}


class Two(Penalty):
    """Constant 2."""

    def forward(self, critic: Critic, batch: DiscriminatorBatch) -> Tensor:
        return torch.tensor(2.0)


def test_the_factor_of_the_penalties() -> None:
    """The sum of the penalties is 4."""
    seen = run(small_gan(penalty=[Two(), Two()]), Schedules(penalty=LinearSchedule(4, 1.0, 0.5)), 6)
    assert [outputs["penalty"] for outputs in seen.outputs] == pytest.approx([4, 3.5, 3, 2.5, 2, 2], rel=1e-6)


def test_a_penalty_with_factor_zero_has_no_effect() -> None:
    models = []
    for penalty, schedules in ((None, Schedules()), (R1(100.0), Schedules(penalty=LinearSchedule(1, 0.0, 0.0)))):
        torch.manual_seed(0)
        models.append(small_gan(penalty=penalty))
        torch.manual_seed(1)
        run(models[-1], schedules, 3)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_the_half_life_of_the_average() -> None:
    """With factors 0, 1/2 and 1 on a half-life of one batch, the average keeps nothing, then 1/4 and 1/2 of itself."""
    schedules = Schedules(ema_halflife=LinearSchedule(2, 0.0, 1.0))
    seen = run(two_scales(ema_halflife=64.0, ema_ramp=None), schedules, 3, Digits(batch_size=64))
    weights = [generator for generator, _ in seen.weights]
    assert same(seen.averages[0], weights[0])
    for step, kept in ((1, 1 / 4), (2, 1 / 2)):
        for before, average, weight in zip(seen.averages[step - 1], seen.averages[step], weights[step], strict=True):
            assert torch.allclose(average, kept * before + (1 - kept) * weight, atol=1e-6)  # usually within 1e-7
        assert not same(seen.averages[step], weights[step])


class Strengths(Augmentation):
    """Keeps the strength at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(float(self.strength))
        return images


def test_the_strength_of_the_augmentation() -> None:
    augmentation = Strengths()
    run(small_gan(augmentation=augmentation), Schedules(augmentation=LinearSchedule(4)), 6)
    discriminator, generator = augmentation.seen[::2], augmentation.seen[1::2]
    assert discriminator == generator == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0], rel=1e-9)


def test_an_augmentation_of_strength_zero_has_no_effect() -> None:
    """The first step is unchanged; later ones differ."""
    results = []
    for augmentation in (None, DiffAugment()):
        torch.manual_seed(0)
        model = small_gan(augmentation=augmentation)
        torch.manual_seed(1)
        schedules = Schedules() if augmentation is None else Schedules(augmentation=LinearSchedule(1, 0.0, 1.0))
        results.append([outputs["discriminator_loss"] for outputs in run(model, schedules, 2).outputs])
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert abs(results[0][1] - results[1][1]) > 1e-3


def test_without_schedules_nothing_changes() -> None:
    models = []
    given: list[list[Callback]] = [[], [Schedules()]]
    for callbacks in given:
        torch.manual_seed(0)
        models.append(small_gan(ema_halflife=100.0))
        fit(models[-1], callbacks=callbacks, max_steps=3)
    assert same_state(*models)


def test_schedules_count_generator_updates_only() -> None:
    seen = []
    for discriminator_steps in (1, 3):
        augmentation = Strengths()
        model = two_scales(discriminator_steps=discriminator_steps, penalty=Two(), ema_halflife=64.0, augmentation=augmentation)
        schedules = Schedules(
            learning_rate=LinearSchedule(4),
            beta2=LinearSchedule(4, 0.9, 0.98),
            penalty=LinearSchedule(4),
            augmentation=LinearSchedule(4),
        )
        record = run(model, schedules, 4, Digits(batch_size=128))
        penalties = [outputs["penalty"] for outputs in record.outputs]
        seen.append((record.rates, record.betas, penalties, augmentation.seen[:: discriminator_steps + 1]))
    assert seen[0] == seen[1]


def test_a_resumed_run_continues_its_schedules(tmp_path: Path) -> None:
    """Resume twice: a factor on the value that the last run left would differ at the first resume, and more at the second."""

    def make() -> tuple[GAN, Schedules]:
        model = two_scales(penalty=Two(), ema_halflife=64.0, augmentation=Strengths())
        return model, Schedules(
            learning_rate=CosineSchedule(8, end=0.1, warmup=2),
            beta2=LinearSchedule(8, 0.9, 0.98),
            penalty=LinearSchedule(8),
            ema_halflife=LinearSchedule(8, 0.0, 1.0),
            augmentation=LinearSchedule(8),
        )

    def values(model: GAN, seen: Seen) -> list[tuple[Any, ...]]:
        assert isinstance(model.augmentation, Strengths)
        penalties = [outputs["penalty"] for outputs in seen.outputs]
        return list(zip(seen.rates, seen.betas, penalties, model.augmentation.seen[::2], strict=True))

    model, schedules = make()
    whole = values(model, run(model, schedules, 8))
    assert len(set(whole)) == 8
    parts: list[tuple[Any, ...]] = []
    ckpt_path = None
    for max_steps in (3, 6, 8):
        model, schedules = make()
        seen = Seen()
        trainer = fit(model, callbacks=[schedules, seen], max_steps=max_steps, ckpt_path=ckpt_path)
        parts += values(model, seen)
        ckpt_path = tmp_path / f"{max_steps}.ckpt"
        trainer.save_checkpoint(ckpt_path, weights_only=False)
        assert model.ema_factor == pytest.approx((max_steps - 1) / 8, rel=1e-9)
    assert parts == whole


def test_a_run_without_schedules_is_resumed_with_one(tmp_path: Path) -> None:
    fit(two_scales(), max_steps=2).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    seen = run(two_scales(), Schedules(learning_rate=LinearSchedule(8)), 4, ckpt_path=tmp_path / "a.ckpt")
    assert seen.rates == [pytest.approx((1e-3 * f, 4e-3 * f), rel=1e-9) for f in (0.75, 0.625)]


@pytest.mark.parametrize(
    ("model", "name", "missing"),
    [
        (small_gan, "penalty", "model.penalty"),
        (small_gan, "ema_halflife", "model.ema_halflife"),
        (small_gan, "augmentation", "model.augmentation"),
        (lambda: small_gan(generator_optimizer=RMSprop), "beta2", "betas"),
        (lambda: small_gan(discriminator_optimizer=RMSprop), "beta2", "betas"),
    ],
)
def test_a_schedule_without_its_target_is_refused(model: Callable[[], GAN], name: str, missing: str) -> None:
    with refuses(f"schedules.{name}", missing):
        fit(model(), callbacks=[Schedules(**{name: LinearSchedule(4, 0.9, 0.5)})], max_steps=1)


def test_learning_rates_of_optimizers_without_betas() -> None:
    trainer = fit(small_gan(discriminator_optimizer=RMSprop), callbacks=[Schedules(LinearSchedule(4))], max_steps=2)
    assert trainer.optimizers[1].param_groups[0]["lr"] == pytest.approx(0.75 * 1e-2, rel=1e-9)


@pytest.mark.parametrize("ends", [(1.0, 0.5), (0.5, 1.0), (0.9, 1.1)])
def test_beta2_stays_below_one(ends: tuple[float, float]) -> None:
    with refuses("schedules.beta2", max(ends), "below 1"):
        Schedules(beta2=LinearSchedule(4, *ends))
    Schedules(beta2=LinearSchedule(4, 0.9, 0.9999))


@pytest.mark.parametrize("ends", [(1.01, 0.5), (0.5, 2.0)])
def test_the_strength_of_the_augmentation_is_at_most_one(ends: tuple[float, float]) -> None:
    with refuses("schedules.augmentation", max(ends), "at most 1"):
        Schedules(augmentation=LinearSchedule(4, *ends))
    Schedules(augmentation=LinearSchedule(4, 0.5, 1.0))


def test_adaptive_augmentation_has_a_strength() -> None:
    augmentation = AdaptiveAugment(["color"])
    run(small_gan(augmentation=augmentation), Schedules(augmentation=LinearSchedule(2)), 2)
    assert augmentation.strength == 0.5
