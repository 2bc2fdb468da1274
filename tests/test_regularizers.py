"""Penalties and constraints against their closed forms."""

import copy
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.optim import SGD, Adam

from gan_lightning import checkpoint
from gan_lightning.data import Digits
from gan_lightning.gan import GAN
from gan_lightning.images import to_float
from gan_lightning.losses import NonSaturatingLoss, WassersteinLoss
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator
from gan_lightning.regularizers import (
    DRAGAN,
    R1,
    R2,
    WGANGP,
    Critic,
    DiscriminatorBatch,
    GradientPenalty,
    LeCam,
    Penalty,
    WeightClipping,
)
from tests.helpers import Outputs, fit, refuses, same_state, small_gan

SHAPE = (2, 3, 4)
IMAGES = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
ALIKE = torch.full((5, *SHAPE), 0.75)  # their standard deviation is 0, so DRAGAN adds no noise
WEIGHTS = torch.randn(24, generator=torch.Generator().manual_seed(1))
Kind = type[R1] | type[WGANGP]  # or of a subclass
GRADIENT_PENALTIES: list[Kind] = [R1, R2, WGANGP, DRAGAN]
PENALTIES: list[type[Penalty]] = [*GRADIENT_PENALTIES, LeCam]
AUTOCAST = {"float32": (torch.float32, False), "bfloat16 images": (torch.bfloat16, False), "autocast": (torch.float32, True)}


def batch_of(real: Tensor, fake: Tensor, labels: Tensor | None = None) -> DiscriminatorBatch:
    return DiscriminatorBatch(real, fake, labels, torch.zeros(len(real)), torch.zeros(len(fake)))


def of_norm(kind: Kind, norms: Sequence[float], weight: float) -> float:
    """Compute the penalty for gradients of the given norms."""
    each = [norm**2 / 2 if issubclass(kind, R1) else (norm - 1) ** 2 for norm in norms]
    return weight * sum(each) / len(each)


def precision(autocast: bool) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext()


# Values


@pytest.mark.parametrize(("dtype", "autocast"), AUTOCAST.values(), ids=AUTOCAST)
@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_penalty_of_a_linear_discriminator(kind: Kind, dtype: torch.dtype, autocast: bool) -> None:
    """D(x) = w.x + 7 has the gradient w: gamma / 2 |w|^2, or lambda (|w| - 1)^2."""
    expected = of_norm(kind, [sum(w * w for w in WEIGHTS.tolist()) ** 0.5], weight=3)
    with precision(autocast):
        penalty = kind(3.0)(
            lambda images, _: linear(images.flatten(1), WEIGHTS[None])[:, 0] + 7,
            batch_of(IMAGES.to(dtype), -IMAGES.to(dtype)),
        )
    assert penalty.dtype == torch.float32
    assert penalty.shape == ()
    assert float(penalty) == pytest.approx(expected, rel=1e-5)  # bfloat16 weights would be off by 1e-3


@pytest.mark.parametrize(("dtype", "autocast"), AUTOCAST.values(), ids=AUTOCAST)
@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_penalty_of_a_quadratic_discriminator(kind: Kind, dtype: torch.dtype, autocast: bool) -> None:
    """D(x) = x.Ax / 2 with a symmetric A has the gradient Ax. Real and generated images are equal, so all points are."""
    square = torch.randn(24, 24, generator=torch.Generator().manual_seed(2)) / 5
    matrix = square + square.T
    images = (ALIKE if kind is DRAGAN else IMAGES).to(dtype)
    norms = [float((matrix.double() @ image.double().flatten()).norm()) for image in images]
    with precision(autocast):
        penalty = kind(3.0)(
            lambda images, _: (linear(images.flatten(1), matrix) * images.flatten(1)).sum(dim=1) / 2,
            batch_of(images, images),
        )
    assert penalty.dtype == torch.float32
    assert float(penalty.detach()) == pytest.approx(of_norm(kind, norms, weight=3), rel=1e-5)


@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_penalty_is_the_same_in_any_precision(kind: Kind) -> None:
    """Images are exact in bfloat16; rounding within the network would change the penalty by about 1e-3."""
    d = DCGANDiscriminator((1, 8, 8), width=8, batch_norm=False)
    images = torch.full((4, 1, 8, 8), 0.5) if kind is DRAGAN else torch.randn(4, 1, 8, 8).bfloat16().float()
    expected = kind()(d, batch_of(images, images))
    assert float(expected.detach()) > 0
    for dtype, autocast in AUTOCAST.values():
        with precision(autocast):
            assert d.features(images).dtype == (torch.bfloat16 if autocast else torch.float32)
            penalty = kind()(d, batch_of(images.to(dtype), images.to(dtype)))
        assert penalty.dtype == torch.float32
        assert float(penalty.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_penalty_has_a_gradient_in_the_parameters(kind: Kind) -> None:
    """Compare the gradient in float32 with finite differences in float64."""
    images = ALIKE if kind is DRAGAN else IMAGES
    d = MLPDiscriminator(SHAPE, hidden=[8])
    exact = copy.deepcopy(d).double()

    def penalty() -> float:
        x = images.double().requires_grad_(True)
        (gradients,) = torch.autograd.grad(exact(x).sum(), x)
        return of_norm(kind, gradients.flatten(1).norm(dim=1).tolist(), weight=1)

    kind(1.0)(d, batch_of(images, images)).backward()
    ours = next(d.parameters()).grad  # of the first layer's weights, (8, 24)
    assert ours is not None
    weight = next(exact.parameters())
    assert float(ours.abs().max()) > 1e-3
    for index in ((0, 0), (3, 7), (5, 20)):
        values = []
        for step in (1e-6, -2e-6, 1e-6):
            with torch.no_grad():
                weight[index] += step
            values.append(penalty())
        assert float(ours[index]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3, abs=1e-6)


def flat_square(images: Tensor, weights: Tensor) -> Tensor:
    return (images.square() * weights).sum(dim=(1, 2, 3))


def flat_linear(images: Tensor, weights: Tensor) -> Tensor:
    return (images * 0 * weights).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("critic", [flat_square, flat_linear])
@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_penalty_of_a_flat_discriminator(kind: Kind, critic: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The norm has no derivative at a gradient of 0, but the penalty and its gradient in the weights are finite."""
    weights = torch.ones(SHAPE, requires_grad=True)
    zero = torch.zeros(5, *SHAPE)
    penalty = kind(3.0)(lambda images, _: critic(images, weights), batch_of(zero, zero))
    assert float(penalty.detach()) == of_norm(kind, [0.0], weight=3)
    (gradient,) = torch.autograd.grad(penalty, weights)
    assert gradient.tolist() == torch.zeros(SHAPE).tolist()


@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_penalty_of_a_network_without_weights_is_finite(kind: Kind) -> None:
    d = MLPDiscriminator(SHAPE, hidden=[8, 8])
    for p in d.parameters():
        nn.init.zeros_(p)
    kind()(d, batch_of(IMAGES, -IMAGES)).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in d.parameters())


# Points


def points_of(penalty: Penalty, real: Tensor, fake: Tensor) -> Tensor:
    seen: list[Tensor] = []

    def critic(images: Tensor, labels: Tensor | None) -> Tensor:
        seen.append(images.detach())
        return images.sum(dim=(1, 2, 3))

    penalty(critic, batch_of(real, fake))
    (points,) = seen
    return points


@pytest.mark.parametrize("kind", [R1, R2])
def test_r1_uses_real_images_and_r2_generated_ones(kind: Kind) -> None:
    nothing = torch.full_like(IMAGES, torch.nan)
    real, fake = (IMAGES, nothing) if kind is R1 else (nothing, IMAGES)
    assert torch.equal(points_of(kind(), real, fake), IMAGES)
    quadratic: Critic = lambda images, _: images.square().sum(dim=(1, 2, 3)) / 2  # noqa: E731
    by_hand = sum(x * x for x in IMAGES.flatten().tolist()) / 2 / 5
    assert float(kind()(quadratic, batch_of(real, fake)).detach()) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_discriminator_is_given_the_labels(kind: Kind) -> None:
    seen: list[Tensor | None] = []

    def critic(images: Tensor, labels: Tensor | None) -> Tensor:
        seen.append(labels)
        return images.sum(dim=(1, 2, 3))

    labels = torch.arange(5)
    kind()(critic, batch_of(IMAGES, IMAGES, labels))
    kind()(critic, batch_of(IMAGES, IMAGES))
    assert seen[0] is labels
    assert seen[1] is None


@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_the_images_are_not_changed(kind: Kind) -> None:
    real, fake = IMAGES.clone(), -IMAGES.clone()
    kind()(lambda images, _: images.square().sum(dim=(1, 2, 3)), batch_of(real, fake)).backward()
    assert torch.equal(real, IMAGES)
    assert torch.equal(fake, -IMAGES)
    assert not real.requires_grad
    assert real.grad is None


def test_wgan_gp_uses_uniform_points_between_real_and_generated_images() -> None:
    """Over 2000 points the mean is within 0.007 of 1/2 in two cases of three, and the variance within 0.002 of 1/12."""
    real, fake = torch.rand(2000, 1, 2, 2) + 1, -torch.rand(2000, 1, 2, 2) - 1
    way = (points_of(WGANGP(), real, fake) - fake) / (real - fake)  # 0 at the generated image, 1 at the real one
    place = way.mean(dim=(1, 2, 3))
    assert torch.allclose(way, place[:, None, None, None].expand_as(way), atol=1e-5)  # a straight line
    assert float(place.min()) > -1e-5
    assert float(place.max()) < 1 + 1e-5
    assert float(place.mean()) == pytest.approx(1 / 2, abs=0.03)
    assert float(place.var()) == pytest.approx(1 / 12, abs=0.01)


def test_dragan_uses_points_up_to_half_a_deviation_above_real_images() -> None:
    """Each pixel's noise is u r with u of the image and r of the pixel, both uniform: the mean is 1/4 and the variance 7/144.

    Of 1000 images the mean lies within 0.005 of that in two cases of three; an image's mean, divided by u, near 1/2.
    """
    real = torch.randn(1000, 1, 10, 10) * 3
    nothing = torch.full_like(real, torch.nan)
    deviation = float(real.double().std())
    noise = (points_of(DRAGAN(), real, nothing) - real) / (0.5 * deviation)
    assert float(noise.min()) > -1e-5
    assert 0.95 < float(noise.max()) < 1 + 1e-5
    assert float(noise.mean()) == pytest.approx(1 / 4, abs=0.02)
    assert float(noise.var()) == pytest.approx(7 / 144, abs=0.01)
    place = noise.mean(dim=(1, 2, 3)) * 2  # u of each image, within 0.06
    assert float(place.var()) == pytest.approx(1 / 12, abs=0.02)  # of one u for all images it would be nearly 0


# Lazily


class Calls(R1):
    """Counts how often it is computed."""

    count = 0

    def forward(self, critic: Critic, batch: DiscriminatorBatch) -> Tensor:
        self.count += 1
        return super().forward(critic, batch)


@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
def test_lazily_every_third_update_has_three_times_the_penalty(kind: Kind) -> None:
    def critic(images: Tensor, labels: Tensor | None) -> Tensor:
        return (images.flatten(1) * WEIGHTS).sum(dim=1)

    always, lazy = kind(3.0), kind(3.0, every=3)
    assert all(always.is_due(update) for update in range(6))
    assert [lazy.is_due(update) for update in range(6)] == [True, False, False, True, False, False]
    (usual,), (value,) = ([penalty(critic, batch_of(IMAGES, IMAGES))] for penalty in (always, lazy))
    assert float(value) == pytest.approx(3 * float(usual), rel=1e-6)
    assert value.dtype == torch.float32
    assert value.shape == ()


def test_a_penalty_is_computed_only_where_it_is_due() -> None:
    calls, outputs = Calls(3.0, every=2), Outputs()
    fit(small_gan(penalty=calls, discriminator_steps=3), Digits(batch_size=16), callbacks=[outputs], max_steps=4)
    assert calls.count == 6  # of 12 updates: 0, 2, 4 ...
    penalties = [step["penalty"] for step in outputs.seen]  # of the third update of each step: 2, 5, 8, 11
    assert [value > 0 for value in penalties] == [True, False, True, False]


# LeCam


def with_logits(real: Tensor, fake: Tensor) -> DiscriminatorBatch:
    return DiscriminatorBatch(IMAGES, IMAGES, None, real, fake)


def no_critic(images: Tensor, labels: Tensor | None) -> Tensor:
    raise AssertionError("LeCam has no look at images")


BATCHES = [([1.0, 3.0], [-1.0, -2.0]), ([4.0, 2.0], [0.0, 1.0]), ([0.0, 1.0], [2.0, -6.0])]


def test_lecam_by_hand_over_three_batches() -> None:
    """With a decay of 3/4, the averages start at the first batch and move a quarter of the way to each."""
    averages = [(2.0, -1.5), (2.25, -1.0), (1.8125, -1.25)]
    lecam = LeCam(weight=0.5, decay=0.75)
    for (real, fake), (real_average, fake_average) in zip(BATCHES, averages, strict=True):
        penalty = lecam(no_critic, with_logits(torch.tensor(real), torch.tensor(fake)))
        assert float(lecam.real_average) == pytest.approx(real_average, rel=1e-6)
        assert float(lecam.fake_average) == pytest.approx(fake_average, rel=1e-6)
        squares = [sum((r - fake_average) ** 2 for r in real) / 2, sum((f - real_average) ** 2 for f in fake) / 2]
        assert float(penalty) == pytest.approx(0.5 * sum(squares), rel=1e-6)


def test_lecam_remembers_its_averages_in_its_state() -> None:
    one, other = LeCam(decay=0.75), LeCam(decay=0.75)
    for real, fake in BATCHES[:2]:
        one(no_critic, with_logits(torch.tensor(real), torch.tensor(fake)))
    other.load_state_dict(one.state_dict())
    third = with_logits(*map(torch.tensor, BATCHES[2]))
    assert torch.equal(one(no_critic, third), other(no_critic, third))
    assert same_state(one, other)
    assert float(LeCam(decay=0.75)(no_critic, third)) != float(one(no_critic, third))


def test_lecam_moves_the_logits_and_not_its_averages() -> None:
    """The gradient at a logit l of a batch of 2 is 0.5 * 2 (l - a) / 2, with a constant average a."""
    lecam = LeCam(weight=0.5, decay=0.75)
    logits = [(torch.tensor(real, requires_grad=True), torch.tensor(fake, requires_grad=True)) for real, fake in BATCHES]
    penalties = [lecam(no_critic, with_logits(*pair)) for pair in logits]  # all averages moved before the first gradient
    for penalty, (real, fake), averages in zip(penalties, logits, [(2.0, -1.5), (2.25, -1.0), (1.8125, -1.25)], strict=True):
        gradients = torch.autograd.grad(penalty, (real, fake))
        assert gradients[0].tolist() == pytest.approx([0.5 * (r - averages[1]) for r in real.tolist()], rel=1e-5)
        assert gradients[1].tolist() == pytest.approx([0.5 * (f - averages[0]) for f in fake.tolist()], rel=1e-5)
    assert not lecam.real_average.requires_grad
    assert not lecam.fake_average.requires_grad


def test_lecam_computes_in_float32() -> None:
    lecam = LeCam(decay=0.75)
    for _ in range(2):
        penalty = lecam(no_critic, with_logits(torch.full((4,), 300.0).half(), torch.full((4,), -300.0).half()))
    assert penalty.dtype == lecam.real_average.dtype == torch.float32
    assert float(penalty) == pytest.approx(0.3 * 2 * 600**2, rel=1e-6)  # more than float16 holds


# Weight clipping


def test_weight_clipping_changes_only_values_outside() -> None:
    d = DCGANDiscriminator((1, 8, 8), width=8)
    for p in d.parameters():
        nn.init.normal_(p, 0.0, 0.1)
    before = {name: value.clone() for name, value in d.state_dict().items()}
    WeightClipping(0.05)(d)
    parameters = dict(d.named_parameters())
    outside = 0
    for name, value in d.state_dict().items():
        if name in parameters:
            assert value.abs().max() <= 0.05
            inside = before[name].abs() <= 0.05
            assert torch.equal(value[inside], before[name][inside])
            assert torch.equal(value[~inside], before[name][~inside].sign() * 0.05)
            outside += int((~inside).sum())
        else:
            assert torch.equal(value, before[name])  # batch norm's moments
    assert outside > 100


# Through the adversarial step


@pytest.mark.parametrize("run_precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", PENALTIES)
def test_a_run_trains_and_logs_the_penalty(kind: type[Penalty], run_precision: str) -> None:
    model = GAN(
        DCGANGenerator((1, 8, 8), width=4),
        DCGANDiscriminator((1, 8, 8), width=4, batch_norm=False),
        NonSaturatingLoss(),
        penalty=kind(),
    )
    before = [p.clone() for p in model.discriminator.parameters()]
    outputs = Outputs()
    fit(model, callbacks=[outputs], max_steps=2, precision=run_precision)
    assert all(step["penalty"] > 0 for step in outputs.seen)
    assert len(outputs.seen) == 2
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, model.discriminator.parameters(), strict=True))


def test_several_penalties_are_added() -> None:
    """Compare R1, R2 and both at the first step from one seed; a run without penalties has no such output."""
    penalties: list[Penalty | list[Penalty] | None] = [R1(2.0), R2(3.0), [R1(2.0), R2(3.0)], None]
    first = []
    for penalty in penalties:
        torch.manual_seed(0)
        outputs = Outputs()
        fit(small_gan(penalty=penalty), callbacks=[outputs], max_steps=1)
        first.append(outputs.seen[0])
    r1, r2, both = (outputs["penalty"] for outputs in first[:3])
    assert min(r1, r2) > 1e-3
    assert both == pytest.approx(r1 + r2, rel=1e-5)
    assert "penalty" not in first[3]
    assert len({outputs["discriminator_loss"] for outputs in first}) == 1  # the loss is logged without them


def most_saved(penalties: list[Penalty]) -> int:
    """The most bytes that autograd keeps at a time in a step with these penalties."""
    kept = most = 0

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal kept, most
            self.tensor = tensor
            kept += tensor.nbytes
            most = max(most, kept)

        def __del__(self) -> None:
            nonlocal kept
            kept -= self.tensor.nbytes

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        fit(small_gan(penalty=penalties), Digits(batch_size=64), max_steps=1)
    return most


def test_each_gradient_penalty_frees_its_memory_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differentiated together, four of them keep four times as much."""
    one, four = most_saved([R1()]), most_saved([R1(), R2(), R1(), R2()])
    assert four < 1.1 * one
    monkeypatch.setattr(GradientPenalty, "has_own_graph", False)
    assert most_saved([R1(), R2(), R1(), R2()]) > 2.5 * one


@pytest.mark.parametrize("kinds", [(R1, R2), (LeCam, R1), (WGANGP,), (DRAGAN, LeCam)])
def test_separate_gradients_are_those_of_the_sum(kinds: Sequence[Kind], monkeypatch: pytest.MonkeyPatch) -> None:
    def weights() -> list[Tensor]:
        torch.manual_seed(0)
        model = small_gan(
            penalty=[kind() for kind in kinds], discriminator_optimizer=lambda parameters: SGD(parameters, lr=1.0)
        )
        fit(model, Digits(batch_size=64), max_steps=1)
        return list(model.discriminator.parameters())

    separate = weights()
    monkeypatch.setattr(GradientPenalty, "has_own_graph", False)
    for mine, theirs in zip(separate, weights(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


class Record(Penalty):
    """Keeps its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[DiscriminatorBatch] = []
        self.heard: list[tuple[Tensor, Tensor]] = []
        self.updates: list[int] = []

    def is_due(self, update: int) -> bool:
        self.updates.append(update)
        return super().is_due(update)

    def forward(self, critic: Critic, batch: DiscriminatorBatch) -> Tensor:
        self.seen.append(batch)
        self.heard.append((critic(batch.real, batch.condition), critic(batch.fake, batch.condition)))
        return torch.zeros(())


def test_the_batch_of_a_penalty() -> None:
    record = Record()
    fit(small_gan(penalty=record, discriminator_steps=2), Digits(batch_size=16), max_steps=3)
    assert record.updates == [0, 1, 2, 3, 4, 5]
    for batch, (real_logits, fake_logits) in zip(record.seen, record.heard, strict=True):
        assert batch.real.shape == batch.fake.shape == (16, 1, 8, 8)
        assert batch.condition is None
        assert not batch.fake.requires_grad
        assert batch.real_logits.requires_grad
        assert torch.allclose(batch.real_logits, real_logits, atol=1e-6)
        assert torch.allclose(batch.fake_logits, fake_logits, atol=1e-6)
    assert not any(torch.equal(a.real, b.real) for a, b in itertools.pairwise(record.seen))


def test_a_resumed_run_continues_to_count_updates(tmp_path: Path) -> None:
    fit(small_gan(penalty=Record(), discriminator_steps=2), max_steps=2).save_checkpoint(
        tmp_path / "a.ckpt", weights_only=False
    )
    record = Record()
    fit(small_gan(penalty=record, discriminator_steps=2), ckpt_path=tmp_path / "a.ckpt", max_steps=3)
    assert record.updates == [4, 5]


def test_r1_lowers_the_gradients() -> None:
    """Compare the penalty on real images at the end of a run without and with R1: 0.042 and 0.015 when this was written."""
    sizes = []
    for penalty in (None, R1(gamma=10.0)):
        torch.manual_seed(0)
        model = small_gan(penalty=penalty)
        fit(model, max_steps=100)
        real = to_float(Digits().images("test")[0])
        sizes.append(float(R1()(model.discriminator, batch_of(real, real)).detach()))
    assert sizes[1] < sizes[0] / 2


def test_wgan_gp_pulls_the_gradient_norm_to_one() -> None:
    """Mean norm on real images after 100 updates against a fixed generator: 52 without it, 1.18 with it.

    It is above 1, because loss and penalty balance; with two other seeds it is 1.23 and 1.22.
    """
    norms = []
    for penalty in (None, WGANGP()):
        torch.manual_seed(0)
        model = small_gan(WassersteinLoss(), penalty=penalty)
        model.generator_optimizer = lambda parameters: SGD(parameters, lr=0.0)
        model.discriminator_optimizer = lambda parameters: Adam(parameters, lr=0.01, betas=(0.0, 0.9))
        fit(model, max_steps=100)
        x = to_float(Digits().images("test")[0]).requires_grad_(True)
        (gradients,) = torch.autograd.grad(model.discriminator(x).sum(), x)
        norms.append(float(gradients.flatten(1).norm(dim=1).mean()))
    assert norms[0] > 10
    assert norms[1] == pytest.approx(1, abs=0.4)


def test_lecams_averages_are_in_the_checkpoint(tmp_path: Path) -> None:
    model = small_gan(penalty=LeCam())
    fit(model, max_steps=3).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    state = checkpoint.load_gan(tmp_path / "a.ckpt")["state_dict"]
    (lecam,) = model.penalties
    assert isinstance(lecam, LeCam)
    assert torch.isfinite(lecam.real_average)
    for name, average in (("real", lecam.real_average), ("fake", lecam.fake_average)):
        assert torch.equal(state[f"penalties.0.{name}_average"], average)
    resumed = small_gan(penalty=LeCam())
    fit(resumed, ckpt_path=tmp_path / "a.ckpt", max_steps=3)  # no further step
    assert same_state(resumed, model)
    with refuses("state", "penalties.0.real_average"):
        fit(small_gan(), ckpt_path=tmp_path / "a.ckpt", max_steps=4)


# Numbers out of range


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_out_of_range(kind: Callable[[float], Penalty], weight: float) -> None:
    name = "gamma" if kind in (R1, R2) else "weight"
    with refuses(kind.__name__, f"{name} is {weight}"):
        kind(weight)


@pytest.mark.parametrize("kind", GRADIENT_PENALTIES)
@pytest.mark.parametrize("every", [0, -4])
def test_an_interval_out_of_range(kind: Kind, every: int) -> None:
    with refuses(kind.__name__, f"every is {every}"):
        kind(1.0, every=every)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range(decay: float) -> None:
    with refuses(f"LeCam's decay is {decay}"):
        LeCam(decay=decay)


@pytest.mark.parametrize("limit", [0.0, -0.01, float("nan"), float("inf")])
def test_a_limit_out_of_range(limit: float) -> None:
    with refuses(f"WeightClipping's limit is {limit}"):
        WeightClipping(limit)


def test_the_ends_of_the_ranges_are_accepted() -> None:
    LeCam(decay=0.0)
    R1(1e-12, every=1)
    WeightClipping(1e-12)
