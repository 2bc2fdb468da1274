"""Images that are decoded once into a file: the same batches as from anywhere else, whatever happens while it is made."""

import errno
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder, PairedFolders, UnpairedFolders
from gan_lightning.data import pack as packing
from gan_lightning.data.decoding import DecodedFiles, read_all, read_into_memory
from gan_lightning.data.loaders import AheadLoader, CropLoader, DeviceLoader, ImageLoader, WorkerLoader
from gan_lightning.data.pack import HEADER, CannotPack, expected_bytes, make_pack, read_pack
from gan_lightning.data.stored import Mapped, whole
from gan_lightning.data.tree import scan
from tests.helpers import assert_same_state, error_line, fit, interrupted, refuses, small_gan

COUNT = 40
DEVICE: dict[str, Any] = {"max_bytes_on_device": 2**30}
PACK: dict[str, Any] = {"max_bytes_on_device": 0}
WORKERS: dict[str, Any] = {"max_bytes_on_device": 0, "pack": False}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 images of two classes, in several sizes."""
    for i in range(COUNT):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sides = (8 + i % 3, 8 + i % 7)
        Image.fromarray(numpy.random.default_rng(i).integers(0, 256, (*sides, 3), dtype=numpy.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of the packs."""
    return tmp_path / "data" / "image_folder_cache"


def loader(photos: Path, **arguments: Any) -> Any:
    data = ImageFolder(photos, 8, batch_size=4, **{"num_workers": 0} | arguments)
    found: Any = fit(small_gan(image_shape=(3, 8, 8)), data, max_steps=1).train_dataloader
    found.load_state_dict({"images": 0})
    return found


def epoch(loader: ImageLoader, number: int) -> list[tuple[Tensor, Tensor]]:
    loader.sampler.set_epoch(number)
    return [(images, labels) for images, labels in loader if labels is not None]


@pytest.mark.parametrize("crop", ["center", "random"])
def test_batches_are_those_of_the_device_and_of_the_workers(photos: Path, crop: str) -> None:
    more: dict[str, Any] = {"crop": crop, "balance": True}
    device, pack, workers = (loader(photos, **more, **where) for where in (DEVICE, PACK, WORKERS))
    assert isinstance(device, CropLoader if crop == "random" else DeviceLoader)
    assert isinstance(pack, AheadLoader)
    assert isinstance(workers, WorkerLoader)
    for number in (0, 3):
        batches = [epoch(each, number) for each in (device, pack, workers)]
        assert len(batches[0]) == len(device) > 1
        for other in batches[1:]:
            assert len(other) == len(batches[0])
            for (ours, own), (theirs, labels) in zip(batches[0], other, strict=True):
                assert torch.equal(ours, theirs)
                assert torch.equal(own, labels)


@pytest.mark.parametrize("crop", ["center", "random"])
def test_an_interrupted_epoch_continues(photos: Path, crop: str) -> None:
    pack = loader(photos, crop=crop, **PACK)
    every = epoch(pack, 1)
    iterator = iter(pack)
    for _ in range(3):
        next(iterator)
    state = pack.state_dict()
    other = loader(photos, crop=crop, **PACK)
    other.load_state_dict(state)
    rest = epoch(other, 1)
    assert len(rest) == len(every) - 3 > 0
    assert all(torch.equal(ours, theirs) for (ours, _), (theirs, _) in zip(rest, every[3:], strict=True))


def test_examples_and_all_images_are_those_in_memory(photos: Path) -> None:
    small, large = (ImageFolder(photos, 8, **where) for where in (DEVICE, PACK))
    few = torch.tensor([3, 1, 3])
    for ours, theirs in (
        (small.examples(2, 3), large.examples(2, 3)),
        (small.images("test"), large.images("test")),
        (small.images_at("train", few), large.images_at("train", few)),
    ):
        assert torch.equal(ours[0], theirs[0])
        assert ours[1] is not None
        assert theirs[1] is not None
        assert torch.equal(ours[1], theirs[1])
    batches = torch.split(torch.arange(small.num_images("train")), 7)
    workers = ImageFolder(photos, 8, num_workers=0, **WORKERS)
    for one, two, three in zip(*(each.batches_at("train", batches) for each in (small, large, workers)), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_pairs_from_a_pack(tmp_path: Path) -> None:
    for side in "AB":
        for i in range(20):
            path = tmp_path / "pairs" / side / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numpy.random.default_rng([i, ord(side)]).integers(0, 256, (9, 12, 3), numpy.uint8)).save(path)
    indices = torch.tensor([4, 0])
    one, other = (PairedFolders(tmp_path / "pairs", image_size=8, **where) for where in (DEVICE, PACK))
    assert all(torch.equal(a, b) for a, b in zip(one.pairs_at("train", indices), other.pairs_at("train", indices), strict=True))
    a, b = tmp_path / "pairs" / "A", tmp_path / "pairs" / "B"
    kinds = [UnpairedFolders(a=a, b=b, image_size=8, **where) for where in (DEVICE, PACK)]
    assert torch.equal(*(kind.sources_at("train", indices) for kind in kinds))


def test_a_pack_serves_any_limit_of_the_device(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ImageFolder(photos, 8, **PACK).prepare_data()
    monkeypatch.setattr("gan_lightning.data.decoding.decode", None)  # decoding again would fail
    assert isinstance(loader(photos, **DEVICE), DeviceLoader)
    assert len([*folder.glob("*.npy")]) == 1


def test_a_pack_of_other_settings_or_files_is_made_again(photos: Path, folder: Path) -> None:
    def pixels(size: int = 8, **arguments: Any) -> Tensor:
        return ImageFolder(photos, size, **PACK, **arguments).images("train")[0]

    first = pixels()
    assert torch.equal(pixels(), first)
    assert len([*folder.glob("*.npy")]) == 1
    assert pixels(9).shape[2] == 9
    assert pixels(channels=1).shape[1] == 1
    path = next(photos.rglob("*.png"))
    Image.fromarray(numpy.zeros((8, 8, 3), numpy.uint8)).save(path)
    os.utime(path, (1, 1))
    assert not torch.equal(pixels(), first)
    assert len([*folder.glob("*.npy")]) == 4
    record = json.loads(next(folder.glob("*.json")).read_text())
    assert {"source", "settings", "corrupt", "crc32", "shape"} <= set(record)


@pytest.mark.parametrize("damage", ["no json", "no npy", "truncated npy", "truncated json", "other shape", "empty npy"])
def test_a_damaged_pack_is_made_again(photos: Path, folder: Path, damage: str) -> None:
    first = ImageFolder(photos, 8, **PACK).images("train")[0]
    (npy,), (note,) = folder.glob("*.npy"), folder.glob("*.json")
    if damage == "no json":
        note.unlink()
    elif damage == "no npy":
        npy.unlink()
    elif damage == "truncated npy":
        npy.write_bytes(npy.read_bytes()[:-100])
    elif damage == "truncated json":
        note.write_text(note.read_text()[:-20])
    elif damage == "other shape":
        numpy.save(npy, numpy.zeros((3, 3, 8, 8), numpy.uint8))
    else:
        npy.write_bytes(b"")
    assert torch.equal(ImageFolder(photos, 8, **PACK).images("train")[0], first)


def test_unreadable_files_are_left_out_and_remembered(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ImageFolder(photos, 8).files["train"].paths
    (photos / paths[2]).write_bytes(b"no image")
    seen = []
    for _ in range(2):
        data = ImageFolder(photos, 8, skip_corrupt=True, **PACK)
        with pytest.warns(UserWarning, match=re.escape(paths[2])):
            images, labels = data.images("train")
        assert labels is not None
        assert len(images) == len(labels) == len(paths) - 1
        seen.append(images)
        monkeypatch.setattr("gan_lightning.data.decoding.decode", None)  # decoding again would fail
    assert torch.equal(*seen)


# The disk


Usage = namedtuple("Usage", "total used free")


def test_space_is_checked_first(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = len(ImageFolder(photos, 8).files["train"].paths) * 3 * 8 * 8
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9, 10**9, needed - 1))
    with refuses(f"{needed:,} bytes", f"{needed - 1:,} bytes", "--data.pack false"):
        ImageFolder(photos, 8, **PACK).prepare_data()
    assert not [*folder.parent.rglob("*.npy"), *folder.parent.rglob("*.part*")]
    with pytest.warns(UserWarning, match="free"):  # few images are kept in memory
        assert len(ImageFolder(photos, 8, **DEVICE).images("train")[0]) > 30
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9, 10**9, needed))
    ImageFolder(photos, 8, **PACK).prepare_data()


class FullDisk:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, content: Any) -> Any:
        self.room -= len(memoryview(content).cast("B"))
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packs run out of space after twenty images."""
    begun = packing._Part.begun

    def on_full_disk(part: Any) -> Any:
        result = begun(part)
        part._file = FullDisk(part._file, 20 * 3 * 8 * 8)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(packing._Part, "begun", on_full_disk)
        yield


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_nothing(photos: Path, folder: Path) -> None:
    with refuses("No space left on device", "bytes", "--data.pack false"):
        ImageFolder(photos, 8, **PACK).prepare_data()
    assert {path.suffix for path in folder.iterdir()} == {".lock"}
    with pytest.warns(UserWarning, match="No space left on device"):
        small = ImageFolder(photos, 8, **DEVICE).images("train")[0]
    assert torch.equal(small, ImageFolder(photos, 8, **WORKERS).images("train")[0])
    assert not [*folder.glob("*.npy")]


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_line_of_the_command(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--config", "folder_64", "--data.root", str(photos), "--data.image_size", "8", "--data.max_bytes_on_device", "0"]
    assert Verb.train.main([*flags, "--accelerator", "cpu", "--max_steps", "1"]) == 2
    error_line(capsys.readouterr().err, "No space left on device", "--data.pack false")


# Interruptions


class Stopped(BaseException):
    """A process is stopped."""


def dataset_of(photos: Path, crop: Any = "center") -> DecodedFiles:
    return DecodedFiles(scan(photos), (3, 8, 8), crop=crop)


@pytest.mark.parametrize("crop", ["center", "random"])
@pytest.mark.parametrize("noted", [True, False])
def test_a_pack_that_was_stopped_is_continued(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool, crop: str
) -> None:
    """After the last note of what is on the disk; from the beginning if there is none."""
    monkeypatch.setattr("gan_lightning.data.decoding.CHUNK", 8)
    monkeypatch.setattr(packing, "SECONDS", 0.0 if noted else 1e9)
    dataset, path = dataset_of(photos, crop), tmp_path / "pack"
    expected = read_into_memory(dataset, 0).images
    made, stop_at = list[int](), 21
    read = DecodedFiles.read

    def counting(self: DecodedFiles, index: int, facts: Any) -> Tensor:
        if len(made) == stop_at:
            raise Stopped
        made.append(index)
        return read(self, index, facts)

    monkeypatch.setattr(DecodedFiles, "read", counting)
    size = expected_bytes(dataset)
    with pytest.raises(Stopped):
        make_pack(dataset, path, 0, {}, size, 0)
    assert read_pack(path, 0) is None
    made.clear()
    stop_at = COUNT + 1
    result = make_pack(dataset, path, 0, {}, size, 2**30)
    assert made == list(range(16 if noted else 0, COUNT))
    if crop == "center":
        assert isinstance(result.images, Mapped)
        assert isinstance(expected, Tensor)
        assert torch.equal(whole(result.images), expected)
    else:
        assert torch.equal(whole(result.images.pixels), whole(expected.pixels))  # type: ignore[union-attr]
        assert torch.equal(result.images.sizes, expected.sizes)  # type: ignore[union-attr]
    assert {entry.suffix for entry in tmp_path.glob("pack*")} == {".npy", ".json", ".lock"}


def test_a_note_of_more_than_the_file_has_begins_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a power failure, on a disk that loses what it confirmed."""
    monkeypatch.setattr("gan_lightning.data.decoding.CHUNK", 8)
    monkeypatch.setattr(packing, "SECONDS", 0.0)
    dataset, path, full = dataset_of(photos), tmp_path / "pack", packing._Part.finish

    def stop(*_: Any) -> None:
        raise Stopped

    monkeypatch.setattr(packing._Part, "finish", stop)
    with pytest.raises(Stopped):
        make_pack(dataset, path, 0, {}, 0, 0)
    part = path.with_suffix(".part")
    assert part.stat().st_size == HEADER + COUNT * 3 * 8 * 8
    os.truncate(part, HEADER + 1000)
    monkeypatch.setattr(packing._Part, "finish", full)
    images = make_pack(dataset, path, 0, {}, 0, 0).images
    assert isinstance(images, Mapped)
    assert torch.equal(whole(images), whole(read_into_memory(dataset, 0).images))  # type: ignore[arg-type]


def test_an_unwritable_folder(photos: Path) -> None:
    with pytest.raises(CannotPack, match="/dev/null"):
        make_pack(dataset_of(photos), Path("/dev/null/pack"), 0, {}, 0, 0)


PROGRAM = """
import sys, torch
from pathlib import Path
from gan_lightning.data import ImageFolder, pack
pack.SECONDS = 0.02
data = ImageFolder(sys.argv[1], 16, max_bytes_on_device=0, num_workers=int(sys.argv[2]))
torch.save(data.images("train")[0], sys.argv[3])
"""


def program(photos: Path, output: Path, workers: int = 0) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", PROGRAM, str(photos), str(workers), str(output)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


def many(tmp_path: Path, count: int) -> Path:
    """Write images that take some time to decode."""
    (tmp_path / "many").mkdir()
    for i in range(count):
        pixels = numpy.random.default_rng(i).integers(0, 256, (150, 200, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / "many" / f"{i:04}.jpg")
    return tmp_path / "many"


def test_two_processes_make_one_pack(tmp_path: Path, folder: Path) -> None:
    source = many(tmp_path, 60)
    both = [program(source, tmp_path / f"{i}.pt") for i in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    expected = ImageFolder(source, 16, num_workers=0, **WORKERS).images("train")[0]
    for i in range(2):
        assert torch.equal(torch.load(tmp_path / f"{i}.pt"), expected)
    assert {path.suffix for path in folder.iterdir()} == {".npy", ".json", ".lock"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [0, 2])
def test_twenty_kills_while_packing(tmp_path: Path, folder: Path, workers: int) -> None:
    """Each at another time; the next start continues or begins again, and the pixels are right in the end."""
    source, output, random_times = many(tmp_path, 1500), tmp_path / "images.pt", random.Random(0)
    expected = ImageFolder(source, 16, num_workers=2, **WORKERS).images("train")[0]
    for path in folder.glob("*"):
        path.unlink()
    kills = continued = 0
    while kills < 20:
        process = program(source, output, workers)
        deadline = time.monotonic() + 60
        while not [*folder.glob("*.part")] and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random_times.uniform(0, 0.6 + workers))
        if process.poll() is not None:  # it was whole before
            for path in folder.glob("*"):
                path.unlink()
            continue
        os.killpg(process.pid, 9)
        process.wait()
        kills += 1
        continued += bool([*folder.glob("*.part.json")])
        for name in folder.glob("*.json"):
            if ".part" not in name.name:  # it had just become whole
                assert torch.equal(ImageFolder(source, 16, **PACK).images("train")[0], expected)
    assert continued > 5
    assert program(source, output, workers).wait(300) == 0
    assert torch.equal(torch.load(output), expected)
    assert not [*folder.glob("*.part*")]


# Training


def test_training_resumes_in_mid_epoch(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitwise, and as with images on the device."""
    small = ["--model.generator", "MLPGenerator", "--model.discriminator", "MLPDiscriminator"]
    small += ["--model.generator.hidden", "[8]", "--model.discriminator.hidden", "[8]", "--metrics.extractor", "none"]
    args = ["--config", "folder_64", "--data.root", str(photos), "--data.image_size", "8", *small]
    args += ["--data.batch_size", "4", "--accelerator", "cpu", "--max_steps", "16", "--enable_progress_bar", "false"]
    packed = [*args, "--data.max_bytes_on_device", "0"]
    assert Verb.train.main([*args, "--default_root_dir", "device"]) == 0
    assert Verb.train.main([*packed, "--default_root_dir", "straight"]) == 0
    interrupted([*packed, "--default_root_dir", "stopped"], 9, monkeypatch)
    assert Verb.train.main(["--ckpt_path", "last", "--default_root_dir", "stopped"]) == 0
    runs = {name: Path(name, "lightning_logs", "version_0") for name in ("device", "straight", "stopped")}
    assert_same_state(runs["straight"], runs["stopped"])
    assert_same_weights(*(runs[name] / "checkpoints" / "last.ckpt" for name in ("device", "straight")))


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_reader_of_every_file_keeps_nothing(photos: Path) -> None:
    result = read_all(dataset_of(photos), 0)
    assert (result.images, result.files, result.corrupt) == (None, COUNT, {})
