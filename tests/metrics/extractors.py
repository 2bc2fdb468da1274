"""A tiny extractor for this project and for torch-fidelity, and what several processes run on it."""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gan_lightning.errors import InputError
from gan_lightning.metrics.evaluator import collect, evaluate
from gan_lightning.metrics.features import ModuleExtractor


class Tiny(nn.Module):
    """Grey levels of a coarse image, mixed, as 24 features; 6 logits of them."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.mixing = nn.Parameter(torch.randn(48, 24, generator=random) / 7, requires_grad=False)
        self.classes = nn.Parameter(torch.randn(24, 6, generator=random), requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        coarse = nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1)  # (N, 48)
        features = (coarse @ self.mixing).relu()
        return features, features @ self.classes


class Table(nn.Module):
    """The features and logits of numbered images, looked up: the same to the last bit in whatever batch."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.features = nn.Parameter(torch.randn(1000, 24, generator=random).relu(), requires_grad=False)
        self.logits = nn.Parameter(torch.randn(1000, 6, generator=random) * 2, requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        numbers = images[:, 0, 0, 0].long() * 256 + images[:, 0, 0, 1].long()
        return self.features[numbers], self.logits[numbers]


def numbered(first: int, count: int) -> Tensor:
    """Images uint8 (count, 1, 1, 2) that say their numbers."""
    numbers = torch.arange(first, first + count)
    return torch.stack([numbers // 256, numbers % 256], dim=1).to(torch.uint8).view(count, 1, 1, 2)


class TinyFidelity(FeatureExtractorBase):  # type: ignore[misc]
    """The same as a feature extractor of torch-fidelity."""

    def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
        super().__init__(name, features_list)
        self.tiny = Tiny()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = dict(zip(("features", "logits"), self.tiny(images), strict=True))
        return tuple(found[name] for name in self.features_list)


def images(count: int, seed: int) -> Tensor:
    """Noise of random brightness, uint8 (count, 3, 16, 16)."""
    random = torch.Generator().manual_seed(seed)
    bright = torch.rand(count, 3, 1, 1, generator=random) * 180
    return (bright + torch.rand(count, 3, 16, 16, generator=random) * 75).to(torch.uint8)


COMPUTED = ("fid", "is", "prdc", "modes", "class_tv")


def measure(module: nn.Module, generated: Tensor, real: Tensor) -> dict[str, float]:
    """The metrics of one set of images against another, in however many processes."""
    extractor = ModuleExtractor(module, "tiny")
    reference = collect(lambda indices: real[indices], extractor, len(real), 64, keep_features=True)
    return evaluate(lambda indices: generated[indices], reference, extractor, COMPUTED, len(generated), 64, progress=False)


def measurements() -> dict[str, dict[str, float]]:
    """Sets whose number two processes divide, and others; the same features, and features computed in other batches."""
    results = {f"same features, {count}": measure(Table(), numbered(0, count), numbered(400, 301)) for count in (200, 203)}
    return {**results, "end to end": measure(Tiny(), images(203, seed=1), images(301, seed=2))}


def main(output: str) -> None:
    """What each of two processes does: measure, also sets that do not divide, and fail in one process alone."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    results = measurements()
    extractor = ModuleExtractor(Tiny(), "tiny")
    alone = collect(lambda indices: images(1, seed=1)[indices], extractor, 1, keep_features=True)  # none for the second process
    assert (alone is None) == (rank == 1)
    assert alone is None or (alone.count == 1 and alone.features is not None and alone.features.shape == (1, 24))

    def fails_in_the_second(indices: Tensor) -> Tensor:
        if rank == 1:
            raise InputError("the second process has no images")
        return images(10, seed=1)[indices]

    message = ""
    try:
        collect(fails_in_the_second, extractor, 10)
    except InputError as error:
        message = str(error)
    Path(output, f"{rank}.json").write_text(json.dumps({"results": results, "message": message}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
