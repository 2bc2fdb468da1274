"""Losses against their closed forms."""

import math

import pytest
import torch

from gan_lightning.losses import AdversarialLoss, MinimaxLoss, NonSaturatingLoss

LOSSES = [MinimaxLoss(), NonSaturatingLoss()]


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_discriminator_loss_is_goodfellows(loss: AdversarialLoss) -> None:
    real, fake = [2.0, -1.0], [0.5, -3.0]
    by_hand = -sum(math.log(probability(r)) for r in real) / 2 - sum(math.log(1 - probability(f)) for f in fake) / 2
    assert float(loss.discriminator(torch.tensor(real), torch.tensor(fake))) == pytest.approx(by_hand, rel=1e-6)


def test_generator_losses_by_hand() -> None:
    fake = [0.5, -3.0]
    minimax = sum(math.log(1 - probability(f)) for f in fake) / 2
    non_saturating = -sum(math.log(probability(f)) for f in fake) / 2
    logits = torch.tensor(fake)
    assert float(MinimaxLoss().generator(None, logits)) == pytest.approx(minimax, rel=1e-6)
    assert float(NonSaturatingLoss().generator(None, logits)) == pytest.approx(non_saturating, rel=1e-6)


def test_an_undecided_discriminator_pays_two_log_two() -> None:
    zero = torch.zeros(5)
    assert float(MinimaxLoss().discriminator(zero, zero)) == pytest.approx(2 * math.log(2), rel=1e-6)


def test_minimax_saturates_where_the_discriminator_is_sure_and_non_saturating_does_not() -> None:
    gradients = {}
    for loss in LOSSES:
        logits = torch.tensor([-10.0], requires_grad=True)
        loss.generator(None, logits).backward()
        assert logits.grad is not None
        gradients[type(loss)] = float(logits.grad)
    assert gradients[MinimaxLoss] == pytest.approx(-probability(-10), rel=1e-5)  # -4.5e-5
    assert gradients[NonSaturatingLoss] == pytest.approx(probability(-10) - 1, rel=1e-5)  # -0.99995


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_finite_at_extreme_logits(loss: AdversarialLoss, dtype: torch.dtype, extreme: float) -> None:
    logits = torch.full((4,), extreme, dtype=dtype, requires_grad=True)
    for value in (loss.discriminator(logits, -logits), loss.discriminator(logits, logits), loss.generator(None, logits)):
        assert torch.isfinite(value)
        (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradients_against_finite_differences(loss: AdversarialLoss) -> None:
    # in float32, as the losses compute: hence the wide step
    for function in (lambda r, f: loss.discriminator(r, f), lambda r, f: loss.generator(None, f)):
        real = torch.tensor([0.3, -1.2], requires_grad=True)
        fake = torch.tensor([1.5, -0.4], requires_grad=True)
        (analytic,) = torch.autograd.grad(function(real, fake), fake)
        for i in range(2):
            step = torch.zeros(2)
            step[i] = 1e-2
            numeric = (function(real, fake + step) - function(real, fake - step)) / 2e-2
            assert float(analytic[i]) == pytest.approx(float(numeric), abs=1e-4)  # usually within 2e-5


def test_the_optimal_discriminator_is_the_ratio_of_densities() -> None:
    """Goodfellow et al. 2014, proposition 1: D*(x) = p / (p + q), here for p = N(-1, 1) and q = N(1, 1): sigmoid(-2x).

    The discriminator is a logit a + b x + c x^2 trained to convergence on the exact expectations (a fine grid), so the
    optimum is a = 0, b = -2, c = 0. It ends within 1e-3 of that.
    """
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) for m in (-1.0, 1.0))
    p, q = p / p.sum(), q / q.sum()
    features = torch.stack([torch.ones_like(x), x, x**2])
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    # the loss takes a mean over samples: stand for the density by repeating grid points in its proportion
    counts = 200_000
    real, fake = ((density * counts).round().long() for density in (p, q))
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = weights @ features
        loss = MinimaxLoss().discriminator(logits.repeat_interleave(real), logits.repeat_interleave(fake))
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    logits = (weights @ features).detach()
    within = (x > -3) & (x < 3)
    assert torch.allclose(torch.sigmoid(logits)[within], (p / (p + q))[within], atol=5e-3)
    assert weights.tolist() == pytest.approx([0.0, -2.0, 0.0], abs=2e-2)
