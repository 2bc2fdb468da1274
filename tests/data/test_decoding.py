"""Many files: little shared memory, few file handles, workers that die, and files that vanish while a run reads them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from gan_lightning.data import ImageFolder
from gan_lightning.data.decoding import CHUNK, FEW, DecodedFiles, _pack, read_again, read_all, read_into_memory
from gan_lightning.data.image_file import Facts
from gan_lightning.data.loaders import batches_of, pack
from gan_lightning.data.tree import scan
from gan_lightning.errors import InputError
from tests.helpers import fit, refuses, small_gan

MANY = FEW + 100
READ = """
import sys
from pathlib import Path
from gan_lightning.data.folder import read_folder
print(tuple(read_folder(Path(sys.argv[1]), (3, 64, 64)).shape))
"""


def folder(path: Path, count: int, size: int = 8) -> Path:
    """Many images by links to few: each shows its number modulo 10."""
    path.mkdir(parents=True)
    for i in range(10):
        Image.fromarray(numpy.full((size, size), 20 * i, numpy.uint8)).save(path / f"{i:06}.png")
    for i in range(10, count):
        os.link(path / f"{i % 10:06}.png", path / f"{i:06}.png")
    return path


def read_in(limits: str, photos: Path) -> "subprocess.CompletedProcess[str]":
    """Read a folder in another process, after a shell has set limits."""
    command = f'{limits} && exec "$0" -c "$1" "$2"'
    words = ["unshare", "-m", "sh", "-c", command, sys.executable, READ, str(photos)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=250)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("photos") / "many", MANY, 64)


@pytest.fixture(scope="module")
def _mounts() -> None:
    found = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=4k tmpfs /dev/shm"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"needs the right to mount a file system: {found.stderr.strip()}")


@pytest.mark.slow
@pytest.mark.usefixtures("_mounts")
@pytest.mark.parametrize("size", ["64k", "1m"])
def test_little_shared_memory_is_enough(photos: Path, size: str) -> None:
    """600 images of 64 pixels take 7 MB; before, the first 64 of them filled /dev/shm, and the process waited for ever."""
    done = read_in(f"mount -t tmpfs -o size={size} tmpfs /dev/shm", photos)
    assert (done.returncode, done.stdout.strip()) == (0, f"({MANY}, 3, 64, 64)"), done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("_mounts")
def test_without_shared_memory_this_process_decodes(photos: Path) -> None:
    """Even the semaphores of a queue find no room."""
    done = read_in("mount -t tmpfs -o size=4k,nr_inodes=2 tmpfs /dev/shm && touch /dev/shm/full", photos)
    assert (done.returncode, done.stdout.strip()) == (0, f"({MANY}, 3, 64, 64)"), done.stderr
    assert "cannot be started" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("_mounts")
def test_few_file_handles_are_enough(tmp_path: Path) -> None:
    """6,400 images come in 100 parts, more than the handles."""
    done = read_in("ulimit -n 64", folder(tmp_path / "many", 100 * CHUNK, 4))
    assert (done.returncode, done.stdout.strip()) == (0, f"({100 * CHUNK}, 3, 64, 64)"), done.stderr


def test_what_crosses_between_processes_is_no_tensor(photos: Path) -> None:
    """A tensor would cross in shared memory, and keep a file handle while it lives."""
    dataset = DecodedFiles(scan(photos).select(range(3)), (1, 8, 8))
    packed = pack([dataset[i] for i in range(3)])
    assert not any(isinstance(part, torch.Tensor) for part in packed)
    parts = _pack([(i, dataset[i][0], Facts(), True) for i in range(3)])
    assert not any(isinstance(part, torch.Tensor) for part in (*parts, *parts[1]))


def test_workers_read_what_this_process_reads(photos: Path) -> None:
    dataset = DecodedFiles(scan(photos), (1, 8, 8))
    one, two = (read_into_memory(dataset, workers).images for workers in (0, 2))
    again, labels, failures = read_again(dataset, 2)
    assert isinstance(one, torch.Tensor)
    assert isinstance(two, torch.Tensor)
    assert torch.equal(one, two)
    assert torch.equal(one, again)
    assert not failures
    assert set(labels.tolist()) == {-1}
    assert [int(image[0, 0, 0]) for image in one[:12]] == [20 * (i % 10) for i in range(12)]


def test_processes_that_cannot_be_started_are_replaced(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DecodedFiles(scan(photos), (1, 8, 8))

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter.__init__", fail)
    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter.__del__", lambda self: None)
    with pytest.warns(UserWarning, match="No space left on device"):
        result = read_into_memory(dataset, 2)
    assert result.images is not None
    assert len(result.images) == MANY


class Dying(DecodedFiles):
    """One file kills the process that reads it, as the kernel does when memory is short."""

    def read(self, index: int, *args: Any) -> torch.Tensor:
        if index == MANY - 1 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index, *args)


class Failing(DecodedFiles):
    """One file finds no memory."""

    def read(self, index: int, *args: Any) -> torch.Tensor:
        if index == MANY - 1:
            raise InputError("no memory for 000001.png: use a smaller one")
        return super().read(index, *args)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("read", [lambda data: read_all(data, 2), lambda data: read_again(data, 2)])
def test_a_worker_that_dies_is_one_line(photos: Path, read: Callable[[DecodedFiles], Any]) -> None:
    with refuses("worker", "--data.num_workers"):
        read(Dying(scan(photos), (1, 8, 8)))


@pytest.mark.timeout(100)
def test_an_error_of_a_worker_has_no_traceback(photos: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_all(Failing(scan(photos), (1, 8, 8)), 2)
    assert str(caught.value) == "no memory for 000001.png: use a smaller one"


def test_images_that_do_not_fit_in_memory_are_one_line(photos: Path) -> None:
    files = scan(photos)
    with refuses(f"{MANY:,} images", "GB"):
        read_again(DecodedFiles(files, (3, 2_000_000, 2_000_000)), 0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("damage", ["vanishes", "is cut"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_file_that_vanishes_while_a_run_reads_it(tmp_path: Path, num_workers: int, damage: str, skip: bool) -> None:
    """The error names it; with skip_corrupt the run goes on."""
    photos = tmp_path / "photos"
    for i in range(40):
        photos.mkdir(exist_ok=True)
        Image.fromarray(numpy.full((8, 8), i, numpy.uint8)).save(photos / f"{i:02}.png")
    data = ImageFolder(
        photos, 8, 1, batch_size=4, skip_corrupt=skip, num_workers=num_workers, max_bytes_on_device=0, pack=False
    )
    data.prepare_data()
    victim = photos / data.files["train"].paths[5]
    victim.unlink() if damage == "vanishes" else victim.write_bytes(victim.read_bytes()[:40])
    if not skip:
        with refuses(victim, "--data.skip_corrupt true"):
            fit(small_gan(), data, max_epochs=3)  # an epoch may end before its turn
        return
    with pytest.warns(UserWarning, match=victim.name) as warned:
        trainer = fit(small_gan(), data, max_epochs=3)
    assert trainer.global_step == 3 * (len(data.files["train"].paths) // 4)
    assert sum(victim.name in str(warning.message) for warning in warned) == 1


@pytest.mark.parametrize("skip", [False, True])
def test_a_file_that_vanishes_before_a_picture_or_a_measurement(tmp_path: Path, skip: bool) -> None:
    """Images and labels stay together, and as many as were asked for."""
    for i in range(40):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numpy.full((8, 8), 100 * (i % 2) + i, numpy.uint8)).save(path)
    data = ImageFolder(tmp_path / "photos", 8, 1, skip_corrupt=skip, num_workers=0, max_bytes_on_device=0, pack=False)
    count = data.num_images("train")
    (tmp_path / "photos" / data.files["train"].paths[0]).unlink()
    reads: list[Callable[[], Any]] = [
        lambda: data.images("train"),
        lambda: data.images_at("train", torch.arange(count)),
        lambda: data.examples(2, 3),
    ]
    for number, read in enumerate(reads):
        if not skip:
            with refuses("00.png"):
                read()
            continue
        images, labels = read()
        assert len(images) == (count if number < 2 else 6) == len(labels)
        assert [int(image.max() >= 100) for image in images] == labels.tolist()  # class b is bright


def test_many_files_that_vanish_are_not_reported_one_by_one(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    photos = folder(tmp_path / "photos", 60)
    data = ImageFolder(photos, 8, 1, skip_corrupt=True, num_workers=0, max_bytes_on_device=0, pack=False)
    paths = data.files["train"].paths
    data.prepare_data()
    for path in paths[:20]:
        (photos / path).unlink()
    for number in reversed(range(20)):
        data.images_at("train", torch.tensor([number, 20]))
    reports = [str(warning.message) for warning in recwarn if "cannot be read any more" in str(warning.message)]
    assert [int(report.partition(" and ")[2].split()[0]) for report in reports] == [1, 2, 4, 8, 16]


def test_a_folder_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    """Nothing stands in for everything."""
    photos = folder(tmp_path / "photos", 40)
    data = ImageFolder(photos, 8, 1, batch_size=4, skip_corrupt=True, num_workers=0, max_bytes_on_device=0, pack=False)
    data.prepare_data()
    photos.rename(tmp_path / "unmounted")
    with refuses("photos"):
        fit(small_gan(), data, max_epochs=1)


def test_the_order_of_a_loader_does_not_depend_on_the_workers(photos: Path) -> None:
    dataset = DecodedFiles(scan(photos).select(range(20)), (1, 8, 8))

    def make(workers: int) -> Any:
        return torch.utils.data.DataLoader(dataset, 4, num_workers=workers, collate_fn=pack)

    for one, two in zip(batches_of(make, 0), batches_of(make, 2), strict=True):
        assert numpy.array_equal(one[0], two[0])
