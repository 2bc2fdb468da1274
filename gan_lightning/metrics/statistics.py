"""Statistics of a set of images: sums that stream, and reference statistics that are cached on disk."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from gan_lightning import files
from gan_lightning.errors import InputError
from gan_lightning.files import fingerprint
from gan_lightning.metrics.functional import SEED, root
from gan_lightning.metrics.table import OF_LOGITS
from gan_lightning.training.devices import to_device

SPLITS = 10
"""Number of splits of the Inception Score."""
CACHE_VERSION = 1


@dataclass(frozen=True)
class Statistics:
    """The statistics of a set of images that metrics need.

    Attributes:
        count: number of images; None if it comes from a file without it.
        mean: mean of the features, float64 (D,).
        covariance: covariance of the features, float64 (D, D), with N - 1 in the denominator.
        split_counts: number of images of each split of the Inception Score, (S,). None, like the next three, if it was not
            computed, for example because there are no logits.
        probabilities: sums over each split of the class probabilities p, (S, K).
        log_likelihoods: sums over each split of sum_k p_k log p_k, (S,).
        class_counts: number of images for which each class is the likeliest, (K,).
        features: float32 (N, D) in order; None if they were not kept.
    """

    count: int | None
    mean: Tensor
    covariance: Tensor
    split_counts: Tensor | None = None
    probabilities: Tensor | None = None
    log_likelihoods: Tensor | None = None
    class_counts: Tensor | None = None
    features: Tensor | None = None

    @cached_property
    def root(self) -> Tensor:
        """Symmetric root of the covariance, float64 (D, D), computed at the first use."""
        return root(self.covariance)

    def cpu(self) -> "Statistics":
        """Copy them to host memory."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        copied: dict[str, Any] = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in values.items()}
        return Statistics(**copied)


class Sums:
    """Sums over images, in float64, for FID, the Inception Score and class coverage.

    They add up over batches and over processes: the tensors that :meth:`state` lists are added across processes.

    Args:
        num_images: size of the whole set; with it an image's index determines its split of the score.
        num_features: D.
        num_logits: K, or 0 if there are no logits.
        device: device of the sums.
    """

    def __init__(self, num_images: int, num_features: int, num_logits: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.split_of = _splits(num_images).to(device)
        self.count = zeros(1)
        self.features = zeros(num_features)
        self.products = zeros(num_features, num_features)
        self.split_counts = zeros(SPLITS)
        self.probabilities = zeros(SPLITS, num_logits)
        self.log_likelihoods = zeros(SPLITS)
        self.class_counts = zeros(num_logits)

    def update(self, indices: Tensor, features: Tensor, logits: Tensor | None) -> None:
        """Add a batch: global indices (B,), features (B, D), logits (B, K) or None."""
        features = features.to(self.features)
        self.count += len(features)
        self.features += features.sum(0)
        self.products.addmm_(features.T, features)
        if logits is not None:
            log_p = logits.to(self.features).log_softmax(1)
            p = log_p.exp()
            split = self.split_of[to_device(indices, self.split_of.device)]
            self.split_counts.index_add_(0, split, torch.ones_like(split, dtype=torch.float64))
            self.probabilities.index_add_(0, split, p)
            self.log_likelihoods.index_add_(0, split, (p * log_p).sum(1))
            self.class_counts.index_add_(0, logits.argmax(1).to(split.device), torch.ones_like(split, dtype=torch.float64))

    def require_finite(self) -> None:
        """Check the features added so far: one that is NaN or infinite makes the sum so.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        if not bool(self.features.isfinite().all()):
            raise InputError("the extractor's features of some images are NaN or infinite: use another extractor")

    def state(self) -> list[Tensor]:
        """List the sums themselves, not copies: :meth:`statistics` reads them after they were reduced in place."""
        return [self.count, self.features, self.products, *self._of_logits().values()]

    def _of_logits(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in OF_LOGITS}

    def statistics(self, features: Tensor | None = None) -> Statistics:
        """Compute the statistics of all images added so far, on the sums' device, and keep ``features`` in them."""
        count = int(self.count)
        mean = self.features / count
        covariance = (self.products - count * torch.outer(mean, mean)) / max(1, count - 1)
        of_logits = self._of_logits() if len(self.class_counts) else {}
        return Statistics(count, mean, covariance, features=features, **of_logits)


def _splits(num_images: int) -> Tensor:
    """Assign each image to a split of the score, int64 (num_images,): torch-fidelity's permutation, inverted."""
    position = numpy.argsort(numpy.random.RandomState(SEED).permutation(num_images))
    ends = [(split + 1) * num_images // SPLITS for split in range(SPLITS)]
    return torch.from_numpy(numpy.searchsorted(ends, position, side="right"))


SEPARATE = ("features", "class_counts")
"""Fields in a separate file of the cache: not every metric reads them, and caches of earlier versions have no class counts."""


def read_cache(folder: Path, key: dict[str, Any], fields: Collection[str] = ()) -> Statistics | None:
    """Read what :func:`write_cache` wrote for ``key``; None if a file is missing, truncated, damaged or of another key.

    Args:
        folder: the cache folder.
        key: all that the statistics depend on, as primitives. Its hash is in the names of the files, and the key in the files.
        fields: the fields to read besides count, mean and covariance, from :data:`SEPARATE`.
    """
    moments = _read(_file(folder, key, "moments"), key, {"count", "mean", "covariance"})
    if moments is None:
        return None
    mean, covariance = moments["mean"], moments["covariance"]
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        return None
    found: dict[str, Tensor] = {}
    for name in fields:
        content = _read(_file(folder, key, name), key, {name})
        if content is None:
            return None
        found |= content
    statistics = Statistics(int(moments["count"]), mean, covariance, **found)
    if statistics.features is not None and statistics.features.shape != (statistics.count, len(mean)):
        return None
    return statistics


def write_cache(folder: Path, key: dict[str, Any], statistics: Statistics) -> None:
    """Write the moments, and each of :data:`SEPARATE` that there is, for :func:`read_cache`.

    An unwritable cache only prints a warning.
    """
    moments = {"count": torch.tensor(statistics.count), "mean": statistics.mean, "covariance": statistics.covariance}
    separate = {name: {name: value} for name in SEPARATE if (value := getattr(statistics, name)) is not None}
    parts: dict[str, dict[str, Tensor]] = {"moments": moments, **separate}
    for part, tensors in parts.items():
        content = {"key": _key_text(key), "digest": fingerprint(*tensors.values()), **tensors}
        try:
            files.save(content, _file(folder, key, part))
        except OSError as error:
            print(f"{folder} cannot be written ({error.strerror}), so each run computes the reference statistics again")
            return


def _read(path: Path, key: dict[str, Any], names: set[str]) -> dict[str, Tensor] | None:
    try:
        content = files.load(path, keys={"key", "digest", *names})
    except InputError:
        return None
    if content["key"] != _key_text(key):
        return None
    tensors = {name: value for name, value in content.items() if name in names}
    if not all(isinstance(value, Tensor) for value in tensors.values()):
        return None
    return tensors if content["digest"] == fingerprint(*tensors.values()) else None


def _key_text(key: dict[str, Any]) -> str:
    return json.dumps({**key, "format_version": CACHE_VERSION}, sort_keys=True)


def _file(folder: Path, key: dict[str, Any], part: str) -> Path:
    return folder / f"{hashlib.sha256(_key_text(key).encode()).hexdigest()[:32]}.{part}.pt"


def read_npz(path: Path) -> tuple[Statistics, dict[str, Any]]:
    """Read the statistics in an ``.npz`` with ``mu`` and ``sigma``, as pytorch-fid, TTUR and :func:`write_npz` write it.

    Returns:
        the statistics, and the protocol that :func:`write_npz` stored next to them; it is empty for files of other programs.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    content = files.load_arrays(path, keys=("mu", "sigma"), optional=("protocol",))
    try:
        mean, covariance = (torch.from_numpy(content[name].astype(numpy.float64)) for name in ("mu", "sigma"))
        protocol = json.loads(str(content.get("protocol", "{}")))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged in mu, sigma or protocol: use another file") from error
    counts = (protocol.get("class_counts") or []) if isinstance(protocol, dict) else None
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise InputError(f"{path} is damaged in its protocol or class_counts: use another file")
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        raise InputError(
            f"{path} has mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)} "
            "instead of (D,) and (D, D): use another file"
        )
    if not (
        mean.isfinite().all() and covariance.isfinite().all() and torch.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6)
    ):
        raise InputError(f"{path} has NaN or infinite values, or its sigma is not symmetric: use another file")
    count = protocol.get("num_real")
    return Statistics(count if isinstance(count, int) else None, mean, covariance), protocol


def write_npz(path: Path, statistics: Statistics, protocol: dict[str, Any]) -> None:
    """Write ``mu`` and ``sigma``, as other programs read them, and the protocol of their computation."""
    with files.write_aside(path) as aside, aside.open("wb") as file:
        numpy.savez(
            file,
            mu=statistics.mean.cpu().numpy(),
            sigma=statistics.covariance.cpu().numpy(),
            protocol=numpy.array(json.dumps(protocol)),
        )
