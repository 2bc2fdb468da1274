"""The formulas of the metrics, on features and sums of features, in float64 on the device of their arguments.

Nothing here depends on images; the networks that compute features are in ``features.py``.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

KERNEL_SUBSETS = 100
KERNEL_SUBSET_SIZE = 1000
SEED = 2020  # of the subsets and the splits: torch-fidelity's, so that the values agree with it
CHUNK = 2**24  # distances held at a time, 128 MiB


def frechet_distance(
    mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor, root_2: Tensor | None = None
) -> float:
    """Frechet distance between two Gaussians; FID if the features are Inception's (Heusel et al. 2017, equation 6).

        |mean_1 - mean_2|^2 + tr(covariance_1 + covariance_2 - 2 (covariance_1 covariance_2)^(1/2)), at least 0

    The last trace is the sum of the roots of the eigenvalues of R covariance_1 R, where R is the root of covariance_2.
    These are two symmetric eigenvalue problems. Eigenvalues that rounding makes negative are set to zero. A general square
    root, or the eigenvalues of the product, vary by 1e-3 if there are fewer images than features.

    Args:
        mean_1, mean_2: (D,).
        covariance_1, covariance_2: (D, D), symmetric.
        root_2: :func:`root` of covariance_2, if it is known.
    """
    mean_1, covariance_1, mean_2, covariance_2 = (t.double() for t in (mean_1, covariance_1, mean_2, covariance_2))
    root_2 = root(covariance_2) if root_2 is None else root_2
    product = root_2 @ covariance_1 @ root_2
    cross = _eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace() - 2 * cross
    return float(distance.clamp(min=0))  # clamp lets NaN through, unlike max


def root(covariance: Tensor) -> Tensor:
    """Symmetric root, float64 (D, D), of a covariance (D, D). Eigenvalues that rounding makes negative are set to zero."""
    values, vectors = _eigh(covariance.double())
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,) and eigenvectors (D, D), by QR if divide and conquer does not converge.

    That happens where almost all features are constant, as those of a generator that draws one image.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        import scipy.linalg  # here because it takes a third of a second, and is rarely needed

        values, vectors = map(torch.as_tensor, scipy.linalg.eigh(matrix.numpy(force=True), driver="ev"))
    return values.to(matrix.device), vectors.to(matrix.device)


def _eigvalsh(matrix: Tensor) -> Tensor:
    """Eigenvalues (D,), as those of :func:`_eigh`."""
    try:
        values: Tensor = torch.linalg.eigvalsh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        values, _ = _eigh(matrix)
    return values


def inception_score(counts: Tensor, probabilities: Tensor, log_likelihoods: Tensor) -> tuple[float, float]:
    """Mean and (population) standard deviation over splits of exp E KL(p(y|x) | p(y)) (Salimans et al. 2016), from sums.

    It is between 1 (every image has the same class probabilities) and K (each image is certainly of one class, and all
    classes are equally frequent).

    Args:
        counts: (S,), the number of images of each split.
        probabilities: (S, K), the sums over a split's images of p(y|x).
        log_likelihoods: (S,), the sums over a split's images of sum_y p(y|x) log p(y|x).
    """
    marginal = probabilities.double() / counts.double().unsqueeze(1)  # (S, K)
    divergence = log_likelihoods.double() / counts.double() - torch.xlogy(marginal, marginal).sum(1)
    scores = divergence.exp()
    return float(scores.mean()), float(scores.std(correction=0))


def kernel_distance(
    generated: Tensor, real: Tensor, subsets: int = KERNEL_SUBSETS, subset_size: int | None = None
) -> tuple[float, float]:
    """Mean and standard deviation over subsets of the unbiased squared MMD; KID for Inception (Binkowski et al. 2018).

    The kernel is (x.y / D + 1)^3. The value may be negative. Each subset is drawn without replacement, the one of generated
    features first, by a separate random generator.

    If the subsets hold more pairs than the whole sets, the kernel is evaluated once over the whole sets. The sums of a subset
    are then quadratic forms of its indicator vectors: at N = 1000 that is a hundredth of the work.

    Args:
        generated: (N, D).
        real: (M, D).
        subsets: number of subsets.
        subset_size: size of each subset, from 2 to min(N, M); by default 1000, or min(N, M) if that is less. The value is
            unbiased for any size, but with subsets as large as a set, the deviation no longer tells the uncertainty.

    Raises:
        ValueError: there are fewer features than ``subset_size``.
    """
    subset_size = min(KERNEL_SUBSET_SIZE, len(generated), len(real)) if subset_size is None else subset_size
    if not 2 <= subset_size <= min(len(generated), len(real)):
        raise ValueError(f"subsets of {subset_size} cannot be drawn from {len(generated)} and {len(real)} features")
    random = numpy.random.RandomState(SEED)
    sizes = [len(generated), len(real)] * subsets
    chosen = numpy.stack([random.choice(size, subset_size, replace=False) for size in sizes])
    in_generated, in_real = torch.from_numpy(chosen).to(generated.device).view(subsets, 2, -1).unbind(1)  # (subsets, size)
    if max(len(generated), len(real)) ** 2 <= subsets * subset_size**2:
        sums = _kernel_sums_of_all(generated.double(), real.double(), in_generated, in_real)
    else:
        pairs = zip(in_generated, in_real, strict=True)
        sums = torch.stack([_kernel_sums(generated[i].double(), real[j].double()) for i, j in pairs])
    within_generated, within_real, between = sums.unbind(1)  # (subsets,) each
    distances = (within_generated + within_real) / (subset_size * (subset_size - 1)) - 2 * between / subset_size**2
    return float(distances.mean()), float(distances.std(correction=0))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _kernel_sums(x: Tensor, y: Tensor) -> Tensor:
    """Sum the kernel within x and within y, each without its diagonal, and between them."""
    return torch.stack([_kernel(x, x).fill_diagonal_(0).sum(), _kernel(y, y).fill_diagonal_(0).sum(), _kernel(x, y).sum()])


def _kernel_sums_of_all(x: Tensor, y: Tensor, chosen_x: Tensor, chosen_y: Tensor) -> Tensor:
    """Compute :func:`_kernel_sums` of every pair of subsets, (subsets, 3), from one evaluation over all of x and y."""
    subsets = len(chosen_x)
    in_x = x.new_zeros(len(x), subsets).scatter_(0, chosen_x.T, 1.0)  # indicators
    in_y = y.new_zeros(len(y), subsets).scatter_(0, chosen_y.T, 1.0)
    sums = x.new_zeros(3, subsets)
    pairs = ((x, in_x, x, in_x), (y, in_y, y, in_y), (x, in_x, y, in_y))
    for number, (a, in_a, b, in_b) in enumerate(pairs):
        for rows in _chunks(len(a), len(b)):
            kernel = _kernel(a[rows], b)
            if a is b:
                kernel.diagonal(rows.start).zero_()
            sums[number] += ((kernel @ in_b) * in_a[rows]).sum(0)
    return sums.T


class PRDC(NamedTuple):
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

    precision: float
    """The share of generated images within a real one's neighbourhood, 0 to 1: fidelity."""
    recall: float
    """The share of real images within a generated one's neighbourhood, 0 to 1: variety."""
    density: float
    """Number of real neighbourhoods that contain a generated image, over the expected number; it may be above 1."""
    coverage: float
    """The share of real images with a generated one in their neighbourhood, 0 to 1."""


def prdc(generated: Tensor, real: Tensor, k: int = 3, k_density: int = 5) -> PRDC:
    """Precision, recall, density and coverage of features.

    An image's neighbourhood is the ball around its features that reaches its k-th nearest neighbour in its own set. For
    precision and recall the ball includes its border (Kynkaanniemi et al. 2019, equation 1). For density and coverage it
    does not (the reference implementation of Naeem et al. 2020). Distances are computed in float64, chunk by chunk.

    If many real features are equal, their balls are points, and density and coverage are meaningless.

    Args:
        generated: (N, D).
        real: (M, D).
        k: neighbours for precision and recall, below N and M.
        k_density: neighbours for density and coverage, below M.

    Raises:
        ValueError: there are fewer features than neighbours.
    """
    if len(generated) <= k or len(real) <= max(k, k_density):
        raise ValueError(f"{len(generated)} and {len(real)} features are too few for {k} and {k_density} neighbours")
    generated, real = generated.double(), real.double()
    radius_generated = _radii(generated, (k,))[0]  # (N,)
    radius, radius_density = _radii(real, (k, k_density))  # (M,), (M,)
    is_precise = torch.zeros(len(generated), dtype=torch.bool, device=real.device)
    recalled, covered, neighbours = torch.zeros(3, dtype=torch.int64, device=real.device)
    for rows in _chunks(len(real), len(generated)):
        distances = torch.cdist(real[rows], generated)  # (chunk, N)
        is_precise |= (distances <= radius[rows, None]).any(0)
        recalled += (distances <= radius_generated).any(1).sum()
        within = distances < radius_density[rows, None]
        neighbours += within.sum()
        covered += within.any(1).sum()
    counts = torch.stack([is_precise.sum(), recalled, neighbours, covered]).tolist()  # one wait for the device
    sizes = len(generated), len(real), k_density * len(generated), len(real)
    return PRDC(*(count / size for count, size in zip(counts, sizes, strict=True)))


def _radii(features: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """Compute, for each k, the distance from every row of features (N, D) to its k-th nearest other row, (N,)."""
    nearest = torch.cat(
        [
            torch.cdist(features[rows], features).topk(max(ks) + 1, largest=False).values  # the first is itself
            for rows in _chunks(len(features), len(features))
        ]
    )
    return [nearest[:, k] for k in ks]


def nearest(queries: Tensor, references: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Find the k nearest references of each query by Euclidean distance, nearest first, in float64, chunk by chunk.

    Args:
        queries: (N, D).
        references: (M, D).
        k: from 1 to M.

    Returns:
        distances float64 (N, k), exactly 0 for equal features; and indices int64 (N, k) into the references.

    Raises:
        ValueError: there are fewer references than k.
    """
    if not 1 <= k <= len(references):
        raise ValueError(f"{len(references)} features are too few for {k} neighbours")
    queries, references = queries.double(), references.double()
    indices = torch.cat(
        [
            torch.cdist(queries[rows], references).topk(k, largest=False).indices
            for rows in _chunks(len(queries), len(references))
        ]
    )
    distances = (queries.unsqueeze(1) - references[indices]).norm(dim=2)  # no rounding of products: exactly 0 if equal
    distances, order = distances.sort(dim=1, stable=True)
    return distances, indices.gather(1, order)


def mode_coverage(counts: Tensor) -> tuple[int, float]:
    """Count the classes that occur, and compute the KL divergence of their shares from equal ones.

    The Kullback-Leibler divergence is in nats, from 0 to log K. This is the measure of Stacked MNIST's 1000 modes (Metz et
    al. 2017; Srivastava et al. 2017).

    Args:
        counts: (K,), the number of images of each class.
    """
    shares = counts.double() / counts.sum()
    divergence = torch.xlogy(shares, shares * len(counts)).sum()
    return int((counts > 0).sum()), max(0.0, float(divergence))


def total_variation(generated: Tensor, real: Tensor) -> float:
    """Total variation distance between the class frequencies of two sets, sum_k |p_k - q_k| / 2.

    It is between 0 (equal frequencies) and 1 (no class in common). N samples of the very distribution q still read about
    sqrt(K / (2 pi N)) if its K classes are equally frequent: 0.013 for 10,000 samples of 10 classes.

    Args:
        generated: (K,), the number of generated images of each class.
        real: (K,), the number of real images of each class.
    """
    return float((generated.double() / generated.sum() - real.double() / real.sum()).abs().sum() / 2)


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    """Yield ranges of rows such that a chunk of a (rows, columns) matrix has at most CHUNK entries."""
    step = max(1, CHUNK // max(1, columns))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
