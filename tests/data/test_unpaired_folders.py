"""Two folders of images that do not belong together."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor

from gan_lightning.callbacks import Checkpoints
from gan_lightning.data import UnpairedFolders
from gan_lightning.data.loaders import DeviceLoader, EpochShuffle, UnpairedLoader
from tests.helpers import Batches, fit, refuses, small_gan


def write(folder: Path, count: int, first: int = 0) -> Path:
    """Write grey images; the level is their number."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("L", (9, 8), first + i).save(folder / f"{i:03}.{('png', 'bmp', 'tif')[i % 3]}")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """24 images A and 40 images B to train on."""
    for name, count, first in (("trainA", 24, 0), ("trainB", 40, 100), ("testA", 3, 50), ("testB", 5, 150)):
        write(tmp_path / "kinds" / name, count, first)
    return tmp_path / "kinds"


def levels(images: Tensor | None) -> list[int]:
    assert images is not None
    grey = images[:, 0, 0, 0]
    return (grey if grey.dtype == torch.uint8 else (grey + 1) * 127.5).round().int().tolist()


def seen(data: UnpairedFolders, steps: int, *callbacks: Callback, **arguments: Any) -> list[tuple[list[int], list[int]]]:
    """Collect the levels of targets and sources of each batch of a training."""
    batches = Batches()
    fit(small_gan(image_shape=(1, 8, 8)), data, [batches, *callbacks], max_steps=steps, **arguments)
    return [(levels(targets), levels(sources)) for targets, sources in batches.seen]


def test_the_layout_of_the_public_sets(root: Path) -> None:
    data = UnpairedFolders(root, image_size=8, channels=1, source_channels=3)
    assert (data.image_shape, data.source_shape) == ((1, 8, 8), (3, 8, 8))
    assert (data.num_images("train"), data.num_sources("train")) == (40, 24)
    assert levels(data.images("test")[0]) == [150, 151, 152, 153, 154]
    assert levels(data.sources_at("test", torch.arange(3))) == [50, 51, 52]
    assert not data.has_pairs
    with refuses(root):
        data.pairs("test")


def test_two_folders_of_any_place(root: Path, tmp_path: Path) -> None:
    data = UnpairedFolders(a=root / "trainA", b=root / "trainB", image_size=8, channels=1)
    assert data.num_sources("train") + data.num_sources("test") == 24
    assert data.num_images("train") + data.num_images("test") == 40
    for path in (root / "testA").iterdir():
        path.unlink()
    (root / "testA").rmdir()
    held_out = UnpairedFolders(root, image_size=8, channels=1)
    assert held_out.num_sources("train") == data.num_sources("train")
    assert held_out.num_images("test") == 5


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_has_the_size_of_the_larger_kind(root: Path, in_memory: bool) -> None:
    limit: dict[str, Any] = {} if in_memory else {"max_bytes_on_device": 0, "pack": False, "num_workers": 0}
    data = UnpairedFolders(root, image_size=8, channels=1, batch_size=8, **limit)
    batches = seen(data, 10)
    for epoch in (batches[:5], batches[5:]):
        targets, sources = ([level for batch in each for level in batch] for each in zip(*epoch, strict=True))
        assert sorted(targets) == list(range(100, 140))
        assert sorted(sources[:24]) == list(range(24))  # all of them before any is repeated
        assert len(set(sources[24:])) == 16
    (first, first_sources), (second, second_sources) = batches[0], batches[5]
    assert first != second
    assert first_sources != second_sources
    assert batches == seen(UnpairedFolders(root, image_size=8, channels=1, batch_size=8), 10)
    assert batches[0] != seen(UnpairedFolders(root, image_size=8, channels=1, batch_size=8, seed=1), 1)[0]


def test_both_orders_are_independent() -> None:
    orders = [EpochShuffle(10).independent(10, seed).indices() for seed in (1, 2)]
    assert not torch.equal(*orders)


def test_a_resumed_run_continues_with_the_same_images(root: Path, tmp_path: Path) -> None:
    def train(steps: int, folder: str, ckpt_path: Path | None = None) -> list[tuple[list[int], list[int]]]:
        data = UnpairedFolders(root, image_size=8, channels=1, batch_size=8, horizontal_flip=True)
        saved: dict[str, Any] = {"enable_checkpointing": True, "default_root_dir": tmp_path / folder}
        return seen(data, steps, Checkpoints(), ckpt_path=ckpt_path, **saved)

    whole = train(9, "whole")
    train(7, "parts")
    assert train(9, "parts", tmp_path / "parts" / "checkpoints" / "last.ckpt") == whole[7:]


def test_two_processes_see_together_what_one_sees() -> None:
    targets, sources = torch.arange(40).reshape(-1, 1, 1, 1), torch.arange(24).reshape(-1, 1, 1, 1)

    def epoch(rank: int, world_size: int, batch: int) -> list[tuple[list[int], list[int]]]:
        loaders = (
            DeviceLoader(images, None, batch, EpochShuffle(len(images), 0, rank, world_size).independent(40, seed))
            for seed, images in enumerate((targets, sources))
        )
        loader = UnpairedLoader(*loaders)
        loader.sampler.set_epoch(3)
        assert len(loader) == 5
        return [(own.flatten().tolist(), other.flatten().tolist()) for own, other in loader if other is not None]

    alone, first, second = epoch(0, 1, 8), epoch(0, 2, 4), epoch(1, 2, 4)
    for whole, one, two in zip(alone, first, second, strict=True):
        for of_all, of_one, of_two in zip(whole, one, two, strict=True):
            assert of_all[::2] == of_one
            assert of_all[1::2] == of_two


def test_bad_arguments(root: Path, tmp_path: Path) -> None:
    with refuses("data.a is", "data.b"):
        UnpairedFolders(a=root / "trainA")
    with refuses("--data.root", "--data.a"):
        UnpairedFolders()
    with refuses("--data.root", "--data.a"):
        UnpairedFolders(root, root / "trainA", root / "trainB")
    for path in (root / "trainB").iterdir():
        path.unlink()
    with refuses(root / "trainB"):
        UnpairedFolders(root)
    (root / "trainB").rmdir()
    with refuses(root, "trainB"):
        UnpairedFolders(root)
    with refuses(tmp_path / "none"):
        UnpairedFolders(tmp_path / "none")
