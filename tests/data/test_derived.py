"""Pairs made from images."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.data import Derived, Digits, Downscale, Hole, ImageFolder, StackedMNIST, TurnedNegative
from gan_lightning.data.loaders import DeviceLoader, UnpairedLoader
from gan_lightning.images import to_float
from gan_lightning.metrics.measurement import RealImages, make_extractor
from tests.helpers import Batches, fit, refuses, small_gan, write_mnist


def seen(data: Derived, steps: int = 3, **arguments: Any) -> list[tuple[Tensor, Tensor]]:
    """Collect the batches of a training."""
    batches = Batches()
    fit(small_gan(image_shape=data.image_shape), data, [batches], max_steps=steps, **arguments)
    return [(targets, sources) for targets, sources in batches.seen if sources is not None]


def test_the_data_of_its_source() -> None:
    data, digits = Derived(Digits, Downscale(2)), Digits()
    assert (data.image_shape, data.source_shape) == ((1, 8, 8), (1, 4, 4))
    assert (data.name, data.extractor, data.class_names) == ("digits", "classifier", digits.class_names)
    for split in ("train", "test"):
        (images, labels), (theirs, their_labels) = data.images(split), digits.images(split)
        assert torch.equal(images, theirs)
        assert labels is not None
        assert their_labels is not None
        assert torch.equal(labels, their_labels)
        targets, sources = data.pairs(split)
        assert torch.equal(targets, theirs)
        assert torch.equal(sources, Downscale(2)(theirs, torch.empty(len(theirs), 0)))
        assert data.num_sources(split) == data.num_images(split) == len(theirs)
    assert torch.equal(RealImages.of(data, "test").at(torch.arange(digits.num_images("test"))), digits.images("test")[0])


def test_the_classifier_is_that_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def remember(*arguments: Any) -> torch.nn.Module:
        made.append(arguments)
        return torch.nn.Identity()

    monkeypatch.setattr("gan_lightning.metrics.measurement.load_or_train", remember)
    for data in (Derived(Digits, Downscale(2)), Digits()):
        extractor: Any = make_extractor("classifier", data, None, torch.device("cpu"))
        assert isinstance(extractor, torch.nn.Identity)
    assert made[0][0] == made[1][0] == "digits"
    write_mnist(tmp_path)
    data = Derived(StackedMNIST, Downscale(2), root=tmp_path)
    assert data.classifier_source.name == "mnist"


def test_the_source_of_a_batch_is_made_of_the_flipped_target() -> None:
    plain = seen(Derived(Digits, Downscale(2), batch_size=32))
    flipped = seen(Derived(Digits, Downscale(2), batch_size=32, horizontal_flip=True))
    changed = 0
    for (targets, sources), (own, _) in zip(flipped, plain, strict=True):
        whole = ((targets + 1) * 127.5).round().to(torch.uint8)
        assert torch.equal(sources, to_float(Downscale(2)(whole, torch.empty(32, 0))))
        is_flipped = (targets == own.flip(3)).flatten(1).all(1)
        assert (is_flipped | (targets == own).flatten(1).all(1)).all()
        changed += int(is_flipped.sum())
    assert 20 < changed < 80  # of 96; some digits are symmetric


def test_random_holes_of_a_training_are_a_function_of_seed_and_step() -> None:
    def holes(seed: int, steps: int = 3) -> list[Tensor]:
        return [sources[:, 1] for _, sources in seen(Derived(Digits, Hole(), batch_size=16, seed=seed), steps)]

    first, again, other = holes(0), holes(0), holes(1)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])


def test_random_holes_of_measuring_are_a_function_of_the_index() -> None:
    one, other = (Derived(Digits, Hole(), seed=seed, batch_size=2) for seed in (0, 1))
    few = torch.tensor([7, 3, 250])
    targets, sources = one.pairs_at("test", few)
    assert torch.equal(sources, other.pairs("test")[1][few])
    assert torch.equal(targets, other.images("test")[0][few])
    assert len(sources[:, 1].unique(dim=0)) == 3


def test_sources_of_other_images() -> None:
    data = Derived(Digits, TurnedNegative(), batch_size=64, paired=False, seed=3)
    batches = seen(data, steps=22)
    all_targets, all_sources = (torch.cat(each) for each in zip(*batches, strict=True))
    answers = -all_sources.rot90(-1, (2, 3))
    belongs = (answers - all_targets).abs().flatten(1).amax(1) < 1e-6
    assert belongs.float().mean() < 0.01
    digits = Digits().images("train")[0]
    for found in (all_targets, answers):  # an epoch of 22 batches shows 1408 of 1437 images, each once
        levels = ((found + 1) * 127.5).round().to(torch.uint8)
        assert len(levels.unique(dim=0)) == 1408
        assert len(torch.cat([levels, digits]).unique(dim=0)) == len(digits.unique(dim=0)) == 1437
    assert data.has_pairs
    targets, sources = data.pairs("test")
    assert torch.equal(255 - sources.rot90(-1, (2, 3)), targets)
    assert all(torch.equal(one[1], two[1]) for one, two in zip(batches[:2], seen(data, 2), strict=True))


def test_both_orders_share_the_memory_of_the_images() -> None:
    data = Derived(Digits, TurnedNegative(), paired=False)
    loader = fit(small_gan(), data, max_steps=1).train_dataloader
    assert isinstance(loader, UnpairedLoader)
    assert isinstance(loader.targets, DeviceLoader)
    assert isinstance(loader.sources, DeviceLoader)
    assert loader.targets.images is loader.sources.images


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_with_random_crops(tmp_path: Path, in_memory: bool) -> None:
    """The source is made of the crop."""
    for i in range(12):
        pixels = numpy.random.default_rng(i).integers(0, 256, (16, 40, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    limit: dict[str, Any] = {} if in_memory else {"max_bytes_on_device": 0, "num_workers": 0}
    folder = partial(ImageFolder, image_size=16, crop="random", **limit)
    data = Derived(folder, Downscale(4), root=tmp_path, batch_size=4, horizontal_flip=True)
    for targets, sources in seen(data, 3):
        whole = ((targets + 1) * 127.5).round().to(torch.uint8)
        assert torch.equal(sources, to_float(Downscale(4)(whole, torch.empty(4, 0))))
    assert data.extractor == "imagenet"
    assert [folder.root for folder in data.folders] == [tmp_path]


def test_a_folder_needs_a_root() -> None:
    with refuses("data.root"):
        Derived(ImageFolder, Downscale(2))
    with refuses("data.degradation.factor is 3"):
        Derived(Digits, Downscale(3))
