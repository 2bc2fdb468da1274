"""The formulas: closed forms, limiting cases, and torch-fidelity on the same features."""

import math

import numpy
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from gan_lightning.metrics import functional
from gan_lightning.metrics.functional import (
    frechet_distance,
    inception_score,
    kernel_distance,
    mode_coverage,
    nearest,
    prdc,
    root,
    total_variation,
)


def gaussian(count: int, dim: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99)) / dim**0.5
    features: Tensor = torch.randn(count, dim, generator=random) @ mixing * scale + shift
    return features


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.double().mean(0), features.double().T.cov()


def test_frechet_distance_of_gaussians_with_commuting_covariances() -> None:
    mean_1, mean_2 = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 5.0])
    spread_1, spread_2 = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 4.0, 1.0])
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    covariance_1, covariance_2 = (turn @ s.double().diag() @ turn.T for s in (spread_1, spread_2))
    expected = 1 + 4 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2  # |difference of means|^2 + sum (sigma_1 - sigma_2)^2
    assert frechet_distance(mean_1, covariance_1, mean_2, covariance_2) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_one_dimension() -> None:
    one, two = torch.tensor([[2.25]]), torch.tensor([[0.25]])
    assert frechet_distance(torch.tensor([3.0]), one, torch.tensor([1.0]), two) == pytest.approx(4 + (1.5 - 0.5) ** 2)


@pytest.mark.parametrize("count", [20, 500])  # fewer images than the 64 features, and more
def test_identical_sets_have_no_frechet_distance(count: int) -> None:
    mean, covariance = moments(gaussian(count, 64, seed=0))
    assert frechet_distance(mean, covariance, mean, covariance) < 1e-5  # 1e-8 and 1e-13


def test_frechet_distance_agrees_with_torch_fidelity() -> None:
    one, two = gaussian(3000, 64, seed=0), gaussian(2500, 64, seed=1, shift=0.1, scale=1.2)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(one), fid_features_to_statistics(two), False)
    ours = frechet_distance(*moments(one), *moments(two))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours > 1
    assert ours == pytest.approx(frechet_distance(*moments(two), *moments(one)), rel=1e-10)
    assert ours == frechet_distance(*moments(one), *moments(two), root(moments(two)[1]))


def test_frechet_distance_where_eigenvalues_do_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide and conquer fails on some covariances of almost constant features, depending on the machine."""
    one, other = (gaussian(40, 64, seed, scale=1e-3).double() * (torch.arange(64) < 9) for seed in (1, 2))
    arguments = one.mean(0), one.T.cov(), other.mean(0), other.T.cov()
    expected = frechet_distance(*arguments)

    def fail(matrix: Tensor) -> Tensor:
        raise torch.linalg.LinAlgError("does not converge")  # type: ignore[attr-defined]

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    monkeypatch.setattr(torch.linalg, "eigvalsh", fail)
    assert frechet_distance(*arguments) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_without_enough_images_is_finite_and_right() -> None:
    """Covariances of rank 9 in 64 dimensions, on orthogonal subspaces: the cross term is zero."""
    one, two = torch.zeros(10, 64), torch.zeros(10, 64)
    one[:, :20], two[:, 20:40] = gaussian(10, 20, seed=0), gaussian(10, 20, seed=1)
    (mean_1, covariance_1), (mean_2, covariance_2) = moments(one), moments(two)
    expected = float((mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace())
    assert frechet_distance(mean_1, covariance_1, mean_2, covariance_2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_inception_score_of_sure_and_equally_frequent_classes_is_their_number(classes: int) -> None:
    counts = torch.full((10,), 3.0 * classes)
    score, spread = inception_score(counts, torch.full((10, classes), 3.0), torch.zeros(10))
    assert score == pytest.approx(classes, rel=1e-12)
    assert spread == pytest.approx(0, abs=1e-9)


def test_inception_score_of_a_constant_is_one() -> None:
    p = torch.tensor([0.7, 0.2, 0.1, 0.0], dtype=torch.float64)
    score, _ = inception_score(torch.full((10,), 5.0), p.repeat(10, 1) * 5, torch.xlogy(p, p).sum().repeat(10) * 5)
    assert score == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("count", "subset_size"), [(240, 200), (200, 200)])
def test_kernel_distance_agrees_with_torch_fidelity(count: int, subset_size: int) -> None:
    one, two = gaussian(count, 32, seed=0).relu(), gaussian(count + 100, 32, seed=1, shift=0.2).relu()
    theirs = kid_features_to_metric(one, two, kid_subsets=20, kid_subset_size=subset_size, verbose=False)
    mean, std = kernel_distance(one, two, 20, subset_size)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    assert std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3, abs=1e-6)
    assert mean > 0.01


def test_kernel_distance_by_subsets_and_over_the_whole_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = gaussian(300, 16, seed=0), gaussian(250, 16, seed=1, shift=0.2)
    by_subsets = kernel_distance(one, two, subsets=10, subset_size=50)  # 300^2 > 10 * 50^2
    theirs = kid_features_to_metric(one, two, kid_subsets=10, kid_subset_size=50, verbose=False)
    assert by_subsets[0] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    random = numpy.random.RandomState(functional.SEED)
    drawn = [[torch.from_numpy(random.choice(len(features), 50, replace=False)) for features in (one, two)] for _ in range(10)]
    chosen = [torch.stack(subsets) for subsets in zip(*drawn, strict=True)]
    apart = torch.stack([functional._kernel_sums(one.double()[i], two.double()[j]) for i, j in drawn])
    monkeypatch.setattr(functional, "CHUNK", 2000)  # several chunks, the last one shorter
    together = functional._kernel_sums_of_all(one.double(), two.double(), *chosen)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=0)


def test_kernel_distance_is_unbiased() -> None:
    """Of two halves of one distribution it is zero on average: here within 4 standard errors, 0.3 of one as it falls."""
    mean, std = kernel_distance(gaussian(5000, 8, seed=0), gaussian(5000, 8, seed=1), subsets=100, subset_size=50)
    assert abs(mean) < 4 * std / 10
    assert std > 0


def brute_force(generated: Tensor, real: Tensor, k: int, k_density: int) -> tuple[float, float, float, float]:
    """The definitions, in loops."""

    def radius(points: Tensor, i: int, k: int) -> float:
        return sorted(float((points[i] - points[j]).norm()) for j in range(len(points)) if j != i)[k - 1]

    distances = [[float((g - r).norm()) for r in real] for g in generated]
    n, m = len(generated), len(real)
    real_k, real_density = ([radius(real, i, size) for i in range(m)] for size in (k, k_density))
    generated_k = [radius(generated, i, k) for i in range(n)]
    precision = sum(any(distances[g][r] <= real_k[r] for r in range(m)) for g in range(n)) / n
    recall = sum(any(distances[g][r] <= generated_k[g] for g in range(n)) for r in range(m)) / m
    density = sum(distances[g][r] < real_density[r] for g in range(n) for r in range(m)) / (k_density * n)
    coverage = sum(any(distances[g][r] < real_density[r] for g in range(n)) for r in range(m)) / m
    return precision, recall, density, coverage


def test_prdc_is_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = gaussian(40, 3, seed=0, shift=0.3).double(), gaussian(55, 3, seed=1).double()
    expected = brute_force(generated, real, k=3, k_density=5)
    assert tuple(prdc(generated, real)) == pytest.approx(expected, rel=1e-12)
    assert all(0.1 < value < 0.99 for value in expected[:2])
    monkeypatch.setattr(functional, "CHUNK", 100)
    assert tuple(prdc(generated, real)) == pytest.approx(expected, rel=1e-12)


def test_precision_and_recall_have_the_counts_of_torch_fidelity() -> None:
    """With float64 features; in float32 its distance from a point to itself was 0.022."""
    generated, real = gaussian(1500, 32, seed=0, scale=0.8), gaussian(1300, 32, seed=1)
    theirs = prc_features_to_metric(
        generated.double(), real.double(), prc_neighborhood=3, prc_batch_size=400, save_cpu_ram=True, verbose=False
    )
    ours = prdc(generated, real)
    assert round(ours.precision * 1500) == round(theirs["precision"] * 1500)
    assert round(ours.recall * 1300) == round(theirs["recall"] * 1300)
    assert 0.05 < ours.recall < ours.precision < 0.99


def test_identical_sets_have_full_precision_and_recall() -> None:
    features = gaussian(300, 16, seed=0)
    result = prdc(features, features)
    assert (result.precision, result.recall, result.coverage) == (1.0, 1.0, 1.0)
    assert result.density == pytest.approx(1.0, abs=0.05)


def test_collapsed_samples_are_precise_and_recall_little() -> None:
    real = gaussian(500, 8, seed=0)
    collapsed = real[:1] + 0.01 * gaussian(500, 8, seed=1)
    result = prdc(collapsed, real)
    assert result.precision > 0.99
    assert result.recall < 0.05
    assert result.coverage < 0.2
    spread = prdc(gaussian(500, 8, seed=2, scale=5.0), real)  # the other fault: varied, and far from the real
    assert spread.precision < 0.3
    assert spread.recall > 0.5


@pytest.mark.parametrize(
    ("counts", "modes", "divergence"),
    [([5, 5, 5, 5], 4, 0.0), ([20, 0, 0, 0], 1, math.log(4)), ([10, 10, 0, 0], 2, math.log(2))],
)
def test_mode_coverage(counts: list[int], modes: int, divergence: float) -> None:
    covered, kl = mode_coverage(torch.tensor(counts))
    assert covered == modes
    assert kl == pytest.approx(divergence, abs=1e-12)


def test_what_cannot_be_is_not_taken_for_perfect() -> None:
    mean, covariance = moments(gaussian(20, 4, seed=0))
    assert math.isnan(frechet_distance(mean * math.nan, covariance, mean, covariance))
    few = gaussian(5, 4, seed=0)
    with pytest.raises(ValueError, match="5 and 5 features are too few for 3 and 5 neighbours"):
        prdc(few, few)
    with pytest.raises(ValueError, match="subsets of 1000 cannot be drawn from 5 and 5 features"):
        kernel_distance(few, few, subset_size=1000)
    with pytest.raises(ValueError, match="subsets of 1 cannot"):
        kernel_distance(few, few[:1])


@pytest.mark.parametrize("chunk", [2**24, 300])
def test_nearest_references_are_those_of_brute_force(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "CHUNK", chunk)
    queries, references = gaussian(23, 40, seed=0), gaussian(101, 40, seed=1)
    distances, indices = nearest(queries, references, k=5)
    every = (queries.double()[:, None] - references.double()).square().sum(2).sqrt()
    assert distances.dtype == torch.float64
    torch.testing.assert_close(distances, every.sort(1).values[:, :5], rtol=1e-12, atol=0)
    assert torch.equal(indices, every.argsort(1)[:, :5])
    assert torch.equal(nearest(queries, references, k=1)[1], indices[:, :1])
    assert nearest(queries, references, k=101)[0].shape == (23, 101)


def test_what_is_equal_is_at_no_distance() -> None:
    """Exactly, though it is far from the origin; and the second nearest of a set within itself is another one."""
    features = gaussian(50, 200, seed=0, shift=1000.0)
    distances, indices = nearest(features, features, k=2)
    assert (distances[:, 0] == 0).all()
    assert torch.equal(indices[:, 0], torch.arange(50))
    assert (distances[:, 1] > 1).all()


@pytest.mark.parametrize("k", [0, 4])
def test_neighbours_that_there_are_not(k: int) -> None:
    with pytest.raises(ValueError, match=f"3 features are too few for {k} neighbours"):
        nearest(torch.zeros(2, 5), torch.zeros(3, 5), k)


def test_the_total_variation_of_classes() -> None:
    real = torch.tensor([10, 20, 30, 40])
    assert total_variation(3 * real, real) == pytest.approx(0, abs=1e-15)  # the same frequencies of other numbers
    assert total_variation(torch.tensor([0, 0, 5, 5]), torch.tensor([7, 7, 0, 0])) == 1  # no class in common
    assert total_variation(torch.tensor([20, 20, 30, 30]), real) == pytest.approx(0.1)  # a tenth of the images moved
    random = torch.Generator().manual_seed(0)
    few = [torch.randint(10, (5000,), generator=random).bincount(minlength=10) for _ in range(200)]
    read = [total_variation(counts, torch.ones(10)) for counts in few]
    assert sum(read) / 200 == pytest.approx(math.sqrt(10 / (2 * math.pi * 5000)), rel=0.1)
