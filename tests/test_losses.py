"""Losses against their closed forms."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from gan_lightning.losses import (
    AdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    MinimaxLoss,
    NonSaturatingLoss,
    RelativisticAverageLoss,
    RelativisticPairingLoss,
    WassersteinLoss,
)

REAL, FAKE = [2.0, -1.0], [0.5, -3.0]
RELATIVISTIC: list[AdversarialLoss] = [RelativisticPairingLoss(), RelativisticAverageLoss()]
ABSOLUTE: list[AdversarialLoss] = [
    MinimaxLoss(),
    NonSaturatingLoss(),
    LeastSquaresLoss(),
    WassersteinLoss(),
    HingeLoss(),
]
LOSSES = ABSOLUTE + RELATIVISTIC


def name(loss: object) -> str:
    return type(loss).__name__


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def log_loss() -> float:
    """-E log D(x) - E log(1 - D(G(z))) at the logits above."""
    return -mean([math.log(probability(r)) for r in REAL]) - mean([math.log(1 - probability(f)) for f in FAKE])


BY_HAND = {  # discriminator and generator at REAL (mean 0.5) and FAKE (mean -1.25)
    MinimaxLoss: (log_loss(), mean([math.log(1 - probability(f)) for f in FAKE])),
    NonSaturatingLoss: (log_loss(), -mean([math.log(probability(f)) for f in FAKE])),
    LeastSquaresLoss: ((1 + 4) / 2 / 2 + (0.25 + 9) / 2 / 2, (0.25 + 16) / 2 / 2),
    WassersteinLoss: (-1.25 - 0.5, 1.25),
    HingeLoss: ((0 + 2) / 2 + (1.5 + 0) / 2, 1.25),
    RelativisticPairingLoss: (mean([softplus(0.5 - 2), softplus(-3 + 1)]), mean([softplus(2 - 0.5), softplus(-1 + 3)])),
    RelativisticAverageLoss: (
        mean([softplus(-1.25 - 2), softplus(-1.25 + 1)]) + mean([softplus(0.5 - 0.5), softplus(-3 - 0.5)]),
        mean([softplus(0.5 - 0.5), softplus(0.5 + 3)]) + mean([softplus(2 + 1.25), softplus(-1 + 1.25)]),
    ),
}


@pytest.mark.parametrize("loss", LOSSES, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_by_hand(loss: AdversarialLoss, dtype: torch.dtype) -> None:
    real, fake = torch.tensor(REAL, dtype=dtype), torch.tensor(FAKE, dtype=dtype)
    discriminator, generator = BY_HAND[type(loss)]
    precise = 1e-6 if dtype == torch.float32 else 1e-12
    assert float(loss.discriminator(real, fake)) == pytest.approx(discriminator, rel=precise)
    assert float(loss.generator(real, fake)) == pytest.approx(generator, rel=precise)


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_several_logits_per_image_are_averaged(loss: AdversarialLoss) -> None:
    """Each loss is the mean of those of the images' first, second, third and fourth logits alone."""
    torch.manual_seed(0)
    real, fake = torch.randn(5, 4), torch.randn(5, 4)
    parts = list(zip(real.unbind(1), fake.unbind(1), strict=True))
    for player in (loss.discriminator, loss.generator):
        for shape in ((5, 4), (5, 2, 2)):
            whole = float(player(real.view(shape), fake.view(shape)))
            assert whole == pytest.approx(mean([float(player(*part)) for part in parts]), abs=1e-6)


def test_the_hinge_over_patches_by_hand() -> None:
    real, fake = torch.tensor([[2.0, 0.5], [-1.0, 1.0]]), torch.tensor([[0.0, -3.0], [1.5, -0.5]])
    assert float(HingeLoss().discriminator(real, fake)) == pytest.approx((0 + 0.5 + 2 + 0) / 4 + (1 + 0 + 2.5 + 0.5) / 4)
    assert float(HingeLoss().generator(None, fake)) == pytest.approx(-(0 - 3 + 1.5 - 0.5) / 4)


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_which_generators_see_real_images(loss: AdversarialLoss) -> None:
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert loss.generator_sees_real == (loss in RELATIVISTIC)
    if loss.generator_sees_real:
        with pytest.raises(ValueError, match="real images"):
            loss.generator(None, fake)
    else:
        assert torch.equal(loss.generator(None, fake), loss.generator(real, fake))


def test_an_undecided_discriminator_loses_two_log_two() -> None:
    zero = torch.zeros(5)
    assert float(MinimaxLoss().discriminator(zero, zero)) == pytest.approx(2 * math.log(2), rel=1e-6)


def test_only_minimax_saturates_if_the_discriminator_is_sure() -> None:
    gradients = {}
    for loss in (MinimaxLoss(), NonSaturatingLoss()):
        logits = torch.tensor([-10.0], requires_grad=True)
        loss.generator(None, logits).backward()
        assert logits.grad is not None
        gradients[type(loss)] = float(logits.grad)
    assert gradients[MinimaxLoss] == pytest.approx(-probability(-10), rel=1e-5)  # -4.5e-5
    assert gradients[NonSaturatingLoss] == pytest.approx(probability(-10) - 1, rel=1e-5)  # -0.99995


def test_hinge_is_flat_beyond_its_margin_and_of_slope_one_inside() -> None:
    real = torch.tensor([-3.0, 0.9, 1.1, 5.0], requires_grad=True)
    fake = torch.tensor([-5.0, -1.1, -0.9, 3.0], requires_grad=True)
    gradients = torch.autograd.grad(HingeLoss().discriminator(real, fake), (real, fake))
    assert gradients[0].tolist() == [-0.25, -0.25, 0, 0]
    assert gradients[1].tolist() == [0, 0, 0.25, 0.25]


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_only_relativistic_losses_ignore_a_common_offset(loss: AdversarialLoss) -> None:
    """The offset is added to all logits. The Wasserstein discriminator's loss, a difference, ignores it as well."""
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    changes = [
        abs(float(player(real + 5, fake + 5)) - float(player(real, fake))) for player in (loss.discriminator, loss.generator)
    ]
    if loss.generator_sees_real:
        assert max(changes) < 1e-6  # usually below 2e-7
    else:
        assert changes[1] > 0.1
        assert changes[0] < 1e-6 if type(loss) is WassersteinLoss else changes[0] > 0.1


def test_only_relativistic_pairing_depends_on_pairs() -> None:
    real, swapped, fake = torch.tensor(REAL), torch.tensor(REAL[::-1]), torch.tensor(FAKE)
    for loss in LOSSES:
        change = abs(float(loss.discriminator(real, fake)) - float(loss.discriminator(swapped, fake)))
        assert change > 0.1 if isinstance(loss, RelativisticPairingLoss) else change < 1e-6


@pytest.mark.parametrize("loss", LOSSES, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("extreme", [6e4, -6e4])
def test_finite_and_float32_at_extreme_logits(loss: AdversarialLoss, dtype: torch.dtype, extreme: float) -> None:
    """6e4 is about the largest number of float16."""
    logits = torch.full((4,), extreme, dtype=dtype, requires_grad=True)
    players: list[Callable[[Tensor, Tensor], Tensor]] = [loss.discriminator, loss.generator]
    for player in players:
        for value in (player(logits, -logits), player(logits, logits), player(-logits, logits)):
            assert value.dtype == torch.float32
            assert value.shape == ()
            assert torch.isfinite(value)
            (gradient,) = torch.autograd.grad(value, logits)
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_gradients_against_finite_differences(loss: AdversarialLoss) -> None:
    real = torch.tensor([0.3, -1.2, 2.2], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([1.5, -0.4, -1.7], dtype=torch.float64, requires_grad=True)
    assert loss.discriminator(real, fake).dtype == torch.float64
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    if loss.generator_sees_real:
        assert torch.autograd.gradcheck(loss.generator, (real, fake))
    else:
        assert torch.autograd.gradcheck(lambda logits: loss.generator(None, logits), (fake,))


@pytest.mark.parametrize(
    ("loss", "score"),
    [(MinimaxLoss(), lambda logits: logits), (LeastSquaresLoss(), torch.sigmoid)],
    ids=["MinimaxLoss", "LeastSquaresLoss"],
)
def test_the_optimal_discriminator_is_the_ratio_of_densities(loss: AdversarialLoss, score: Callable[[Tensor], Tensor]) -> None:
    """Goodfellow et al. 2014, proposition 1: D*(x) = p / (p + q), here for p = N(-1, 1) and q = N(1, 1): sigmoid(-2x).

    So it is for least squares that draw D to 1 and 0 (Mao et al. 2017, equation 5), where D itself is the score. The
    discriminator is sigmoid(a + b x + c x^2) trained to convergence on the exact expectations (a fine grid), so the
    optimum is a = 0, b = -2, c = 0. D ends within 1e-3 of that, and the weights within 5e-3.
    """
    x = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) for m in (-1.0, 1.0))
    p, q = p / p.sum(), q / q.sum()
    features = torch.stack([torch.ones_like(x), x, x**2])
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    # the loss takes a mean over samples: stand for the density by repeating grid points in its proportion
    counts = 100_000
    real, fake = ((density * counts).round().long() for density in (p, q))
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = score(weights @ features)
        value = loss.discriminator(scores.repeat_interleave(real), scores.repeat_interleave(fake))
        value.backward()
        return value.detach()

    for _ in range(5):
        optimizer.step(closure)
    logits = (weights @ features).detach()
    within = (x > -3) & (x < 3)
    assert torch.allclose(torch.sigmoid(logits)[within], (p / (p + q))[within], atol=5e-3)
    assert weights.tolist() == pytest.approx([0.0, -2.0, 0.0], abs=2e-2)
