"""One pass over a set of images that computes every requested metric."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from gan_lightning.errors import InputError, one_line
from gan_lightning.metrics import functional
from gan_lightning.metrics.features import Extractor
from gan_lightning.metrics.statistics import Statistics, Sums
from gan_lightning.metrics.table import METRICS, Metric, check_request
from gan_lightning.training import distributed
from gan_lightning.training.devices import float64_device

Sample = Callable[[Tensor], Tensor]
"""Maps global indices int64 (B,) to images uint8 (B, C, H, W), generated or from a set of images."""
Read = Callable[[Sequence[Tensor]], Iterable[Tensor]]
"""Maps batches of global indices, each int64 (B,), to their images, each uint8 (B, C, H, W): it knows what comes next."""


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
        reference: statistics of the real images, with the fields that the metrics take. Only the first process uses them.
            None if no metric compares with real images.
        extractor: the feature extractor, in eval mode.
        metrics: names from :data:`~gan_lightning.metrics.table.METRICS`.
        num_images: number of images.
        batch_size: images per batch; it changes the results only within rounding.
        progress: show a progress bar.

    Returns:
        name -> value, with the names of :meth:`~gan_lightning.metrics.table.Metric.names`.

    Raises:
        InputError: one process failed; every process raises it.
    """
    check_request(metrics, num_images, None if reference is None else reference.count, real_features=True)
    keep = any("features" in METRICS[name].takes for name in metrics)
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
    if reference is not None and generated.mean.shape != reference.mean.shape:
        raise InputError(
            f"the reference has {len(reference.mean)} features, but the extractor gives {len(generated.mean)}: use the "
            "reference of this extractor"
        )
    values: dict[str, float] = {}
    for metric in METRICS.values():
        if metric.name in metrics:
            arguments = [*_arguments(metric, generated), *(_arguments(metric, reference) if metric.compares else ())]
            arguments += [getattr(reference, name) for name in metric.takes_of_real]
            device = generated.mean.device
            result = getattr(functional, metric.formula)(*(argument.to(device) for argument in arguments))
            numbers = result if isinstance(result, tuple) else (result,)
            values |= zip(metric.names(prefix, generated.count).values(), numbers, strict=True)
    return values


def _arguments(metric: Metric, statistics: Statistics | None) -> Iterator[Tensor]:
    """Yield the fields of one set that a metric takes, of at most as many images as it uses."""
    if statistics is None:
        raise InputError(f"{metric.name} compares with real images, but there are none: remove it from the metrics")
    for field in metric.takes:
        value = getattr(statistics, field)
        if value is None:
            what = "logits, but the extractor gives none" if metric.needs_logits else "the features of the images"
            raise InputError(f"{metric.name} needs {what}: remove it from the metrics")
        yield value if metric.most is None else value[choose(len(value), metric.most)]


def choose(size: int, count: int, seed: int = 0) -> Tensor:
    """Choose ``count`` of ``size`` images, sorted indices int64: all, or a random choice with a fixed seed.

    The choice is random because images are often sorted by class.
    """
    if count >= size:
        return torch.arange(size)
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def collect(
    sample: Sample,
    extractor: Extractor,
    num_images: int,
    batch_size: int = 50,
    keep_features: bool = False,
    description: str | None = None,
) -> Statistics | None:
    """Compute statistics of ``num_images`` images, as :func:`collect_batches` does, from a function of one batch."""
    return collect_batches(lambda batches: map(sample, batches), extractor, num_images, batch_size, keep_features, description)


def collect_batches(
    read: Read,
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
        read: the images.
        extractor: the feature extractor.
        num_images: number of images.
        batch_size: images per batch, in each process.
        keep_features: keep the features too.
        description: text of the progress bar; None shows no bar.

    Returns:
        the statistics in the first process, on the device of the extractor if that has float64; None in the others.

    Raises:
        InputError: ``read`` or the extractor raised it in this process, or another process failed (reported in one line).
    """
    if num_images < 1 or batch_size < 1:
        raise InputError(f"num_images is {num_images} and batch_size is {batch_size}: use at least 1 for both")
    rank, world_size = distributed.rank(), distributed.world_size()
    device = float64_device(extractor.device)
    own = torch.arange(rank, num_images, world_size)
    sums: Sums | None = None
    kept: list[Tensor] = []
    failure: Exception | None = None
    bar = tqdm(total=len(own), desc=description, unit=" images", disable=description is None or rank > 0, leave=False)
    try:
        batches = torch.split(own, batch_size) if len(own) else ()
        for indices, images in zip(batches, read(batches), strict=True):
            features, logits = extractor(images)
            is_first = sums is None
            sums = sums or Sums(num_images, features.shape[1], 0 if logits is None else logits.shape[1], device)
            sums.update(indices, features, logits)
            if is_first:
                sums.require_finite()
            if keep_features:
                kept.append(features.to(device))
            bar.update(len(indices))
        if sums is not None:
            sums.require_finite()  # once for all batches, so that the host does not wait for each
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
    outcomes: list[Any] = [None] * distributed.world_size()
    dist.all_gather_object(outcomes, (shape, None if failure is None else one_line(failure)))
    if failure is not None:
        raise failure
    for rank, (_, message) in enumerate(outcomes):
        if message is not None:
            raise InputError(f"process {rank}: {message}")
    num_features, num_logits = next(shape for shape, _ in outcomes if shape is not None)
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
        padded[: len(own)] = own
    gathered = [torch.empty_like(padded) for _ in range(world_size)] if distributed.rank() == 0 else None
    dist.gather(padded, gathered)
    if gathered is None:
        return None
    return torch.stack(gathered, dim=1).flatten(0, 1)[:num_images]  # row r of process p is image r * world_size + p
