"""One pass over a set of images that computes every requested metric."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from gan_lightning.errors import InputError, one_line
from gan_lightning.metrics.features import Extractor
from gan_lightning.metrics.functional import (
    KERNEL_SUBSET_SIZE,
    KERNEL_SUBSETS,
    frechet_distance,
    inception_score,
    kernel_distance,
    mode_coverage,
    prdc,
)
from gan_lightning.metrics.request import NEED_REAL_FEATURES, NEED_REFERENCE, check_request
from gan_lightning.metrics.statistics import SPLITS, Statistics, Sums
from gan_lightning.training import distributed

Sample = Callable[[Tensor], Tensor]
"""Maps global indices int64 (B,) to images uint8 (B, C, H, W), generated or from a set of images."""

PRDC_IMAGES = 10_000
"""Largest number of images of each set for precision, recall, density and coverage, chosen at random as in their papers."""


def check_extractor(extractor: Extractor, metrics: Sequence[str], image_shape: tuple[int, int, int]) -> int:
    """Try an extractor on one black image before a measurement, and return its number of features.

    Raises:
        InputError: the extractor rejects images of this shape (C, H, W), or returns no logits although a metric needs them.
    """
    features, logits = extractor(torch.zeros(1, *image_shape, dtype=torch.uint8))
    for metric in ("is", "modes"):
        if metric in metrics and logits is None:
            raise InputError(f"{metric} needs logits, and the extractor gives none; leave it out of the metrics")
    return int(features.shape[1])


def evaluate(
    sample: Sample,
    reference: Statistics | None,
    extractor: Extractor,
    metrics: Sequence[str],
    num_images: int,
    batch_size: int = 50,
    progress: bool = True,
) -> dict[str, float]:
    """Compute every requested metric in one pass over ``num_images`` generated images; all processes return the same.

    Args:
        sample: the images.
        reference: statistics of the real images, with features if a metric needs them. Only the first process uses them.
            None if no metric compares with real images.
        extractor: the feature extractor, in eval mode.
        metrics: names from :data:`~gan_lightning.metrics.request.FEWEST`.
        num_images: number of images.
        batch_size: images per batch; it changes the results only within rounding.
        progress: show a progress bar.

    Returns:
        name -> value, with the names of :func:`metric_names`.

    Raises:
        InputError: one process failed; every process raises it.
    """
    check_request(metrics, num_images, None if reference is None else reference.count, real_features=True)
    keep = bool(NEED_REAL_FEATURES & set(metrics))
    generated = collect(sample, extractor, num_images, batch_size, keep, "Measuring samples" if progress else None)
    values: dict[str, float] = distributed.on_first_process(lambda: compute(generated, reference, extractor.prefix, metrics))
    return values


def compute(
    generated: Statistics | None, reference: Statistics | None, prefix: str, metrics: Sequence[str]
) -> dict[str, float]:
    """Compute metrics from the statistics of two sets, with the arguments of :func:`evaluate`.

    Raises:
        InputError: the statistics do not fit each other, or lack what a metric needs.
    """
    assert generated is not None
    assert generated.count is not None
    if reference is None:
        if NEED_REFERENCE & set(metrics):
            raise InputError(f"{', '.join(NEED_REFERENCE & set(metrics))} compares with real images, and there are none")
        reference = generated
    if generated.mean.shape != reference.mean.shape:
        raise InputError(
            f"the reference has {len(reference.mean)} features and the extractor gives {len(generated.mean)}: use the "
            "reference that was made with this extractor"
        )
    names = metric_names(prefix, generated.count)
    values: dict[str, float] = {}
    if "fid" in metrics:
        values[names["fid"]] = frechet_distance(generated.mean, generated.covariance, reference.mean, reference.covariance)
    if "is" in metrics:
        if generated.score_sums is None:
            raise InputError("is needs logits, and the extractor gives none; leave it out")
        values[names["is"]], values[names["is_std"]] = inception_score(*generated.score_sums)
    if "kid" in metrics:
        assert generated.features is not None
        assert reference.features is not None
        values[names["kid"]], values[names["kid_std"]] = kernel_distance(generated.features, reference.features)
    if "prdc" in metrics:
        assert generated.features is not None
        assert reference.features is not None
        sets = generated.features, reference.features
        few = [features[choose(len(features), PRDC_IMAGES)] for features in sets]
        result = prdc(few[0], few[1])
        values |= {names[name]: value for name, value in result._asdict().items()}
    if "modes" in metrics:
        if generated.class_counts is None:
            raise InputError("modes needs logits, and the extractor gives none; leave it out")
        values[names["modes"]], values[names["kl"]] = mode_coverage(generated.class_counts)
    return values


def choose(size: int, count: int, seed: int = 0) -> Tensor:
    """Choose ``count`` of ``size`` images, sorted indices int64: all, or a random choice with a fixed seed.

    The choice is random because images are often sorted by class.
    """
    if count >= size:
        return torch.arange(size)
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def metric_names(prefix: str, num_images: int) -> dict[str, str]:
    """Make the full names of all values: ``fid_50k`` with Inception (no prefix), ``mnist_fd_5k`` with MNIST's classifier.

    The number is the number of generated images used, because most of these values depend on it.
    """
    count, few = short_count(num_images), short_count(min(num_images, PRDC_IMAGES))
    fid, score, kid = ("fid", "is", "kid") if not prefix else ("fd", "score", "kd")
    return {
        "fid": f"{prefix}{fid}_{count}",
        "is": f"{prefix}{score}_{count}",
        "is_std": f"{prefix}{score}_{count}_std",
        "kid": f"{prefix}{kid}_{count}",
        "kid_std": f"{prefix}{kid}_{count}_std",
        **{name: f"{prefix}{name}_{few}" for name in ("precision", "recall", "density", "coverage")},
        "modes": f"{prefix}modes_{count}",
        "kl": f"{prefix}kl_{count}",
    }


def short_count(count: int) -> str:
    """Write 50000 as 50k, and a number that is no multiple of 1000 in full."""
    return f"{count // 1000}k" if count and count % 1000 == 0 else str(count)


def protocol(metrics: Sequence[str], num_images: int, num_real: int | None) -> dict[str, Any]:
    """List the constants that the values of these metrics depend on."""
    few = [None if count is None else min(count, PRDC_IMAGES) for count in (num_images, num_real)]
    constants: dict[str, dict[str, Any]] = {
        "fid": {"covariance": "unbiased", "root": "two symmetric eigenproblems, float64"},
        "is": {"splits": SPLITS, "order": "permuted by RandomState(2020)", "std": "population, over splits"},
        "kid": {"kernel": "(x.y / D + 1)^3", "subsets": KERNEL_SUBSETS, "subset_size": KERNEL_SUBSET_SIZE},
        "prdc": {"k": 3, "k_density": 5, "num_images": few[0], "num_real": few[1], "choice": "random, seed 0"},
        "modes": {"class": "the largest logit"},
    }
    return {name: constants[name] for name in metrics}


def collect(
    sample: Sample,
    extractor: Extractor,
    num_images: int,
    batch_size: int = 50,
    keep_features: bool = False,
    description: str | None = None,
) -> Statistics | None:
    """Compute statistics of ``num_images`` images in one pass shared by all processes; only the first returns them.

    Process ``rank`` of ``world_size`` takes the global indices rank, rank + world_size, ... The processes exchange results
    once all are done. A process that fails or has no images still takes part in the exchange, so that none waits forever.

    Args:
        sample: the images.
        extractor: the feature extractor.
        num_images: number of images.
        batch_size: images per batch, in each process.
        keep_features: keep the features too.
        description: text of the progress bar; None shows no bar.

    Returns:
        the statistics in the first process, None in the others.

    Raises:
        InputError: ``sample`` or the extractor raised it in this process, or another process failed (reported in one line).
    """
    if num_images < 1 or batch_size < 1:
        raise InputError(f"num_images is {num_images} and batch_size {batch_size}: give at least 1")
    rank, world_size = distributed.rank(), distributed.world_size()
    device = extractor.device if extractor.device.type != "mps" else torch.device("cpu")  # MPS has no float64
    own = torch.arange(rank, num_images, world_size)
    sums: Sums | None = None
    kept: list[Tensor] = []
    failure: Exception | None = None
    bar = tqdm(total=len(own), desc=description, unit=" images", disable=description is None or rank > 0, leave=False)
    try:
        for indices in torch.split(own, batch_size) if len(own) else ():
            features, logits = extractor(sample(indices))
            if not bool(features.isfinite().all()):
                raise InputError("the extractor's features hold NaN or infinite values for some images")
            if sums is None:
                sums = Sums(num_images, features.shape[1], 0 if logits is None else logits.shape[1], device)
            sums.update(indices, features, logits)
            if keep_features:
                kept.append(features.cpu())
            bar.update(len(indices))
    except Exception as error:  # _reduce reports it to the other processes first
        failure = error
    finally:
        bar.close()
    if world_size == 1:
        if failure is not None:
            raise failure
        assert sums is not None
        return sums.statistics(torch.cat(kept) if keep_features else None)
    return _reduce(sums, kept, failure, num_images, keep_features, device)


def _reduce(
    sums: Sums | None, kept: list[Tensor], failure: Exception | None, num_images: int, keep_features: bool, device: torch.device
) -> Statistics | None:
    """Add up the sums of all processes and gather their features; every process must call this."""
    shape = None if sums is None else (len(sums.features), len(sums.class_counts))
    told: list[Any] = [None] * distributed.world_size()
    dist.all_gather_object(told, (shape, None if failure is None else one_line(failure)))
    if failure is not None:
        raise failure
    for rank, (_, message) in enumerate(told):
        if message is not None:
            raise InputError(f"process {rank}: {message}")
    num_features, num_logits = next(shape for shape, _ in told if shape is not None)
    sums = sums or Sums(num_images, num_features, num_logits, device)
    packed = torch.cat([tensor.flatten() for tensor in sums.state()])
    dist.all_reduce(packed)
    for tensor, total in zip(sums.state(), torch.split(packed, [tensor.numel() for tensor in sums.state()]), strict=True):
        tensor.copy_(total.view_as(tensor))
    features = _gather(kept, num_images, num_features, device) if keep_features else None
    return sums.statistics(features) if distributed.rank() == 0 else None


def _gather(kept: list[Tensor], num_images: int, num_features: int, device: torch.device) -> Tensor | None:
    """Gather the features of all processes, in the order of their global indices, in the first process."""
    world_size = distributed.world_size()
    padded = torch.zeros(-(-num_images // world_size), num_features, device=device)
    if kept:
        own = torch.cat(kept)
        padded[: len(own)] = own.to(device)
    gathered = [torch.empty_like(padded) for _ in range(world_size)] if distributed.rank() == 0 else None
    dist.gather(padded, gathered)
    if gathered is None:
        return None
    return torch.stack(gathered, dim=1).flatten(0, 1)[:num_images].cpu()  # row r of process p is image r * world_size + p


def seconds_per_image(extractor: Extractor, image_shape: tuple[int, int, int], batch_size: int = 16) -> float:
    """Time the extraction of one batch, after one that warms up; seconds per image."""
    images = torch.zeros(batch_size, *image_shape, dtype=torch.uint8)
    extractor(images)
    begun = time.perf_counter()
    extractor(images)
    return (time.perf_counter() - begun) / batch_size
