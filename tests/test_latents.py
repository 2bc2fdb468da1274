"""Latents and labels by global index."""

import numpy
import pytest
import torch
from scipy.stats import kstest, norm, truncnorm
from torch import Tensor

from gan_lightning.latents import class_labels, latents, spherical, truncated
from tests.helpers import refuses


def test_a_latent_depends_on_seed_and_index_alone() -> None:
    whole = latents(torch.arange(50), 16, seed=3)
    assert whole.shape == (50, 16)
    assert whole.dtype == torch.float32
    for part in (torch.arange(1, 50, 2), torch.tensor([49, 0, 7]), torch.tensor([], dtype=torch.int64)):
        assert torch.equal(latents(part, 16, seed=3), whole[part])
    assert not torch.equal(latents(torch.arange(50), 16, seed=4), whole)
    state = torch.get_rng_state()
    latents(torch.arange(3), 4, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_latent_is_that_of_a_generator_of_its_own() -> None:
    """Whatever the rows before it left in the generator's buffer."""
    for dim in (1, 3, 64):
        for index, row in enumerate(latents(torch.arange(9), dim, seed=5)):
            own = numpy.random.Generator(numpy.random.Philox(key=5, counter=[0, 0, index, 0]))
            assert row.tolist() == own.standard_normal(dim, numpy.float32).tolist()


def test_latents_are_standard_normal_and_independent() -> None:
    """400,000 values have mean 0.0004, deviation 1.0002, and a correlation of neighbours of 0.001."""
    z = latents(torch.arange(4000), 100, seed=0)
    assert abs(float(z.mean())) < 0.006
    assert abs(float(z.std()) - 1) < 0.006
    assert abs(float((z[1:] * z[:-1]).mean())) < 0.006
    assert abs(float((z[:, 1:] * z[:, :-1]).mean())) < 0.006
    assert abs(float((latents(torch.arange(4000), 100, seed=1) * z).mean())) < 0.006


def test_labels_are_in_proportion_for_every_count() -> None:
    frequencies = torch.tensor([50, 0, 30, 20])
    labels = class_labels(torch.arange(10_000), frequencies)
    for count in (10, 100, 1000, 10_000):
        shares = torch.bincount(labels[:count], minlength=4) / count
        torch.testing.assert_close(shares, frequencies / 100, atol=2 / count**0.8, rtol=0)
    assert torch.equal(class_labels(torch.tensor([7, 3]), frequencies), labels[torch.tensor([7, 3])])


def reference_walk(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Rotate the first direction towards the second, in their plane, by a share of the angle, and scale it."""
    a = start.double() / start.double().norm()
    across = end.double() - (end.double() @ a) * a
    angle = torch.atan2(across.norm(), end.double() @ a)
    turned = (weights * angle).cos()[:, None] * a + (weights * angle).sin()[:, None] * across / across.norm()
    walked: Tensor = turned * torch.lerp(start.double().norm(), end.double().norm(), weights)[:, None]
    return walked


@pytest.mark.parametrize("dim", [2, 3, 100, 2000])
def test_a_walk_turns_at_a_constant_rate(dim: int) -> None:
    """Compare with the rotation in the plane of the two ends, and with closed forms of lengths and angles."""
    start, end = latents(torch.arange(2), dim, seed=dim)
    weights = torch.linspace(0, 1, 17, dtype=torch.float64)
    walked = spherical(start, end, weights)
    assert walked.dtype == torch.float32
    assert torch.equal(walked[0], start)
    assert torch.equal(walked[-1], end)
    torch.testing.assert_close(walked.double(), reference_walk(start, end, weights), atol=1e-6, rtol=1e-6)
    lengths = walked.double().norm(dim=1)
    torch.testing.assert_close(lengths, start.double().norm() + weights * (end.double().norm() - start.double().norm()))
    directions = walked.double() / lengths[:, None]
    steps = (directions[1:] * directions[:-1]).sum(1).clamp(max=1).acos()
    whole = (directions[0] @ directions[-1]).acos()
    torch.testing.assert_close(steps, (whole / 16).expand(16), atol=1e-6, rtol=1e-5)
    straight = torch.lerp(start, end, torch.tensor(0.5)).norm() / lengths[8]
    assert straight < 0.95  # the straight line's middle is shorter: 0.72 of it in 100 dimensions and more


def test_a_walk_between_equal_or_opposite_points() -> None:
    """The great circle is a point or not unique, so the walk is a straight line."""
    weights = torch.linspace(0, 1, 5)
    (start,) = latents(torch.arange(1), 50, seed=0)
    torch.testing.assert_close(spherical(start, start, weights), start.expand(5, -1))
    torch.testing.assert_close(spherical(start, start * 3, weights), torch.lerp(start, start * 3, weights[:, None]))
    torch.testing.assert_close(spherical(start, -start, weights), torch.lerp(start, -start, weights[:, None]))
    other = latents(torch.arange(1), 50, seed=1)[0]
    for nearly in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):  # no jump on the way there
        for end in (start + nearly * other, -start + nearly * other):
            walked = spherical(start, end, weights)
            assert walked.isfinite().all()
            torch.testing.assert_close(walked[[0, -1]], torch.stack([start, end]))
        torch.testing.assert_close(
            spherical(start, start + nearly * other, weights), start.expand(5, -1), atol=5 * nearly, rtol=1e-5
        )
    one = spherical(torch.tensor([0.5]), torch.tensor([-2.0]), weights)  # in one dimension there is only a line
    torch.testing.assert_close(one, torch.lerp(torch.tensor([[0.5]]), torch.tensor([[-2.0]]), weights[:, None]))


@pytest.mark.parametrize("threshold", [0.05, 0.7, 2.0])
def test_truncated_latents_have_scipys_truncated_normal_distribution(threshold: float) -> None:
    """Over 40,000 values the distribution functions differ by at most 0.0039, p = 0.57; with another threshold, p < 1e-11."""
    z = truncated(latents(torch.arange(400), 100, seed=0), threshold)
    assert z.dtype == torch.float32
    assert threshold * 0.99 < float(z.abs().max()) <= threshold
    assert kstest(z.flatten().double().numpy(), truncnorm(-threshold, threshold).cdf).pvalue > 0.01
    assert kstest(z.flatten().double().numpy(), truncnorm(-1.3 * threshold, 1.3 * threshold).cdf).pvalue < 1e-6


def test_truncation_moves_each_value_to_the_same_quantile() -> None:
    z = torch.arange(-1200, 1201, dtype=torch.float64) / 100
    for threshold in (0.1, 1.0, 3.0):
        moved = truncated(z, threshold)
        assert (moved.diff() >= 0).all()
        assert (moved[900:1501].diff() > 0).all()
        assert torch.equal(moved, -moved.flip(0))
        assert float(moved[1200]) == 0
        assert float(moved[-1]) == pytest.approx(threshold, abs=1e-9)
        expected = truncnorm(-threshold, threshold).ppf(norm.cdf(z[:1201].numpy()))
        numpy.testing.assert_allclose(moved[:1201].numpy(), expected, atol=1e-9)
    torch.testing.assert_close(truncated(z, 100.0), z, atol=1e-7, rtol=1e-7)  # no value exceeds it
    inner = z[z.abs() <= 3]
    assert (truncated(inner, 0.5).abs() <= truncated(inner, 0.6).abs()).all()  # steadily with the threshold
    one = torch.tensor([0.3])
    assert torch.equal(truncated(one, 0.7), truncated(torch.cat([one, one * 9]), 0.7)[:1])


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_out_of_range(threshold: float) -> None:
    with refuses(f"truncation is {threshold}"):
        truncated(torch.zeros(2), threshold)
