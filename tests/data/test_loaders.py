"""Order, sharding and the position within an epoch."""

import gc
import itertools
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from gan_lightning.data.loaders import BalancedShuffle, DeviceLoader, EpochShuffle, ImageLoader, Item, WorkerLoader


class Numbered(torch.utils.data.Dataset[Item]):
    """Image i is filled with i."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, place: tuple[int, int]) -> Item:
        index, _ = place
        return torch.full((1, 2, 2), index, dtype=torch.uint8), index, ()


def device_loader(batch: int = 4, rank: int = 0, world_size: int = 1, seed: int = 0) -> DeviceLoader:
    images = torch.arange(23, dtype=torch.uint8).view(23, 1, 1, 1).expand(23, 1, 2, 2)
    return DeviceLoader(images, torch.arange(23), batch, EpochShuffle(23, seed, rank, world_size))


def worker_loader(batch: int = 4, num_workers: int = 0) -> WorkerLoader:
    return WorkerLoader(Numbered(), True, batch, EpochShuffle(23), num_workers, pin_memory=False, report=print)


def order(loader: ImageLoader) -> list[int]:
    return [int(image[0, 0, 0]) for images, _ in loader for image in images]


@pytest.mark.parametrize("make", [device_loader, worker_loader])
def test_an_epoch_is_whole_batches_of_different_images(make: Callable[[], ImageLoader]) -> None:
    loader = make()
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    for images, labels in batches:
        assert images.shape == (4, 1, 2, 2)
        assert images.dtype == torch.uint8
        assert labels is not None
        assert labels.dtype == torch.int64
        assert images[:, 0, 0, 0].tolist() == labels.tolist()
    assert len(set(order(loader))) == 20


def test_both_loaders_have_one_order_and_format() -> None:
    assert order(device_loader()) == order(worker_loader()) == order(worker_loader(num_workers=2))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {}
    for seed, epoch in itertools.product((0, 1), (0, 1)):
        loader = device_loader(seed=seed)
        loader.sampler.set_epoch(epoch)
        torch.manual_seed(torch.seed())  # the global random numbers do not matter
        orders[seed, epoch] = order(loader)
        assert order(loader) == orders[seed, epoch]
    assert len({tuple(o) for o in orders.values()}) == 4
    assert device_loader().sampler.epoch == 0


def test_workers_stay_for_the_next_epoch() -> None:
    """They end with the loader, or if an epoch is not taken to its end."""

    class Workers(Numbered):
        def __getitem__(self, place: tuple[int, int]) -> Item:
            return super().__getitem__(place)[0], os.getpid(), ()

    def workers(loader: ImageLoader, batches: int = 5) -> set[int]:
        return {int(label) for _, labels in itertools.islice(loader, batches) if labels is not None for label in labels}

    def alive() -> set[int | None]:
        return {process.pid for process in multiprocessing.active_children()}

    gc.collect()  # ends those of other tests
    before = alive()
    loader = WorkerLoader(Workers(), True, 4, EpochShuffle(23), 2, pin_memory=False, report=print)
    first = workers(loader)
    assert len(first) == 2
    assert workers(loader) == first == alive() - before
    assert workers(loader, 2) <= first
    gc.collect()
    assert alive() == before
    other = workers(loader)
    assert len(other) == 2
    assert not other & first
    del loader
    gc.collect()
    assert alive() == before


def test_workers_follow_the_epoch() -> None:
    ours, theirs = worker_loader(num_workers=2), device_loader()
    for epoch in range(3):
        ours.sampler.set_epoch(epoch)
        theirs.sampler.set_epoch(epoch)
        assert order(ours) == order(theirs)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_share_equally_without_overlap(world_size: int) -> None:
    shares = [EpochShuffle(23, 0, rank, world_size).indices().tolist() for rank in range(world_size)]
    assert {len(share) for share in shares} == {23 // world_size}
    together = [i for share in shares for i in share]
    assert len(set(together)) == len(together) == 23 // world_size * world_size
    # together they are the images that one process sees first
    assert set(together) == set(EpochShuffle(23).indices()[: len(together)].tolist())


@pytest.mark.parametrize("make", [device_loader, worker_loader])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_loader_resumes_at_its_position(make: Callable[[], ImageLoader], stop: int) -> None:
    whole = order(make())
    loader = make()
    list(itertools.islice(loader, stop))
    state = loader.state_dict()
    again = make()
    again.load_state_dict(state)
    # a state from an epoch's end continues with a whole epoch
    assert order(again) == (whole[4 * stop :] if stop < 5 else whole)
    assert order(again) == whole


def test_nothing_is_permuted_before_the_first_batch() -> None:
    """Lightning makes an iterator at set-up, before it sets the epoch."""
    loader = device_loader()
    iterator = iter(loader)
    loader.sampler.set_epoch(3)
    first = next(iterator)[0][:, 0, 0, 0].tolist()
    fresh = device_loader()
    fresh.sampler.set_epoch(3)
    assert first == order(fresh)[:4]


def test_without_labels_they_are_none() -> None:
    loader = DeviceLoader(torch.zeros(8, 1, 2, 2, dtype=torch.uint8), None, 4, EpochShuffle(8))
    assert [labels for _, labels in loader] == [None, None]
    unlabelled = WorkerLoader(Numbered(), False, 4, EpochShuffle(23), 0, pin_memory=False, report=print)
    assert next(iter(unlabelled))[1] is None


LABELS = torch.tensor([0] * 70 + [1] * 6 + [2] * 25)  # 101 images of three classes


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_balanced_classes_are_drawn_equally_often(world_size: int) -> None:
    """An epoch of 101 images has 33 or 34 of each class, whoever draws them."""
    extra = Counter[int]()
    for epoch in range(30):
        shares = []
        for rank in range(world_size):
            sampler = BalancedShuffle(LABELS, 0, rank, world_size)
            sampler.set_epoch(epoch)
            shares.append(sampler.indices())
            assert len(shares[-1]) == len(sampler) == 101 // world_size
        order = torch.stack(shares, dim=1).flatten()
        alone = BalancedShuffle(LABELS, 0)
        alone.set_epoch(epoch)
        assert torch.equal(order, alone.indices()[: len(order)])
        counts = torch.bincount(LABELS[alone.indices()], minlength=3)
        assert counts.sort().values.tolist() == [33, 34, 34]
        extra[int(counts.argmin())] += 1
    assert min(extra[label] for label in range(3)) >= 3  # 10 on average


def test_balanced_images_of_a_class_are_drawn_equally_often() -> None:
    seen = torch.zeros(101)
    for epoch in range(40):
        sampler = BalancedShuffle(LABELS, 3)
        sampler.set_epoch(epoch)
        uses = torch.bincount(sampler.indices(), minlength=101)
        for label, most in ((0, 1), (1, 6), (2, 2)):
            own = uses[label == LABELS]
            assert own.max() == most
            assert own.max() - own.min() <= 1
        seen += uses
    assert (seen[:70] - 40 * 33.7 / 70).abs().max() < 12  # 19.3, with a deviation of 3.2
    other = BalancedShuffle(LABELS, 4)
    assert not torch.equal(other.indices(), BalancedShuffle(LABELS, 3).indices())


class Slow(ImageLoader):
    """Batches that take some time to read."""

    def __init__(self, seconds: float) -> None:
        super().__init__(1, EpochShuffle(120), advice="buy a faster disk")
        self.seconds = seconds

    def batches(self, start: int) -> Iterator[tuple[Tensor, None]]:
        for _ in range(start, len(self)):
            time.sleep(self.seconds)
            yield torch.zeros(1), None


@pytest.mark.parametrize(("reading", "training", "lines"), [(0.004, 0.0, 1), (0.0, 0.004, 0)])
def test_a_training_that_waits_for_images_says_so_once(
    reading: float, training: float, lines: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    loader = Slow(reading)
    with caplog.at_level("INFO"):
        for _ in range(2):
            for _ in loader:
                time.sleep(training)
    assert (caplog.text + capsys.readouterr().err).count("buy a faster disk") == lines
