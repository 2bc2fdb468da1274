"""Any folder of images."""

import io
import multiprocessing
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gan_lightning.data import ImageFolder
from gan_lightning.data.folder import read_folder
from gan_lightning.data.image_file import SUFFIXES, decode
from gan_lightning.data.loaders import DeviceLoader, WorkerLoader
from gan_lightning.data.survey import survey_folder
from gan_lightning.data.tree import is_held_out
from gan_lightning.errors import InputError
from tests.helpers import error_line, fit, refuses, small_gan

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[numpy.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return numpy.random.default_rng(seed).integers(0, 256, shape, dtype=numpy.uint8)


def write(path: Path, height: int = 20, width: int = 30, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width, seed=seed)).save(path)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes of 20 images each, of many sizes and endings."""
    root = tmp_path / "photos"
    for c, name in enumerate(("cats", "dogs and wölfe")):
        for i in range(20):
            ending = ("png", "jpg", "JPEG", "bmp", "webp", "gif", "tif")[i % 7]
            write(root / name / f"image {i}.{ending}", 8 + 3 * i, 60 - 2 * i, seed=100 * c + i)
    return root


def test_a_subfolder_is_a_class(classes: Path) -> None:
    data = ImageFolder(classes, image_size=16)
    assert (data.image_shape, tuple(data.class_names)) == ((3, 16, 16), ("cats", "dogs and wölfe"))
    (train, labels), (test, test_labels) = data.images("train"), data.images("test")
    assert labels is not None
    assert test_labels is not None
    assert len(train) + len(test) == 40
    assert 1 <= len(test) <= 8  # a tenth by hash: 4 on average
    assert set(labels.tolist()) == {0, 1}
    assert train.dtype == torch.uint8


def test_the_held_out_images_stay_held_out(classes: Path) -> None:
    before = ImageFolder(classes, image_size=8).files["test"].paths
    for i in range(10):
        write(classes / "cats" / f"new {i}.png", seed=i)
    after = ImageFolder(classes, image_size=8).files["test"].paths
    assert set(before) <= set(after)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for i in range(30):
        write(tmp_path / "flat" / f"{i}.png", seed=i)
    data = ImageFolder(tmp_path / "flat", image_size=8, channels=1)
    assert (data.num_classes, data.image_shape) == (0, (1, 8, 8))
    images, labels = data.images("train")
    assert labels is None
    assert images.shape[1:] == (1, 8, 8)
    trainer = fit(small_gan(image_shape=(1, 8, 8)), ImageFolder(tmp_path / "flat", 8, 1, batch_size=4), max_steps=3)
    assert trainer.global_step == 3


def test_exactly_train_and_test_are_the_splits(tmp_path: Path) -> None:
    for split, count in (("train", 12), ("test", 3)):
        for i in range(count):
            write(tmp_path / "data" / split / "ab"[i % 2] / f"{i}.png", seed=i)
    data = ImageFolder(tmp_path / "data", image_size=8)
    assert tuple(data.class_names) == ("a", "b")
    assert (len(data.images("train")[0]), len(data.images("test")[0])) == (12, 3)
    write(tmp_path / "data" / "other" / "x.png")
    assert tuple(ImageFolder(tmp_path / "data", image_size=8).class_names) == ("other", "test", "train")


def test_the_splits_must_agree_on_classes(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train" / "a" / "1.png")
    write(tmp_path / "data" / "test" / "b" / "1.png")
    with refuses(tmp_path / "data" / "test", "(b)"):
        ImageFolder(tmp_path / "data")


def test_modes(tmp_path: Path) -> None:
    grey = noise(8, 8, 1)
    image = Image.fromarray(grey)
    image.save(tmp_path / "grey.png")
    assert torch.equal(decode(tmp_path / "grey.png", (1, 8, 8))[0], torch.from_numpy(grey))
    assert torch.equal(decode(tmp_path / "grey.png", (3, 8, 8)), torch.from_numpy(grey).expand(3, 8, 8))

    Image.fromarray(grey.astype(numpy.uint16) * 257).save(tmp_path / "sixteen.png")  # 0 .. 65535
    assert torch.equal(decode(tmp_path / "sixteen.png", (1, 8, 8))[0], torch.from_numpy(grey))

    image.convert("P").save(tmp_path / "palette.png")
    assert torch.equal(decode(tmp_path / "palette.png", (3, 8, 8))[0], torch.from_numpy(grey))

    image.point(lambda level: 255 * (level > 127)).convert("1").save(tmp_path / "bits.png")
    assert set(decode(tmp_path / "bits.png", (1, 8, 8)).flatten().tolist()) == {0, 255}

    image.convert("RGB").convert("CMYK").save(tmp_path / "cmyk.tif")
    assert (decode(tmp_path / "cmyk.tif", (3, 8, 8))[1].int() - torch.from_numpy(grey).int()).abs().max() <= 1

    colour = noise(8, 8)
    alpha = numpy.concatenate([colour, numpy.full((8, 8, 1), 255, numpy.uint8)], axis=2)
    alpha[:4, :, 3] = 0  # the upper half is transparent, with any colour
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    pixels = decode(tmp_path / "rgba.png", (3, 8, 8))
    assert (pixels[:, :4] == 255).all()
    assert torch.equal(pixels[:, 4:], torch.from_numpy(colour).permute(2, 0, 1)[:, 4:])


def test_resized_to_the_shorter_side_and_cropped_at_the_centre(tmp_path: Path) -> None:
    """Of three squares in a row, black, white and black, the white one remains."""
    pixels = numpy.zeros((20, 60), numpy.uint8)
    pixels[:, 20:40] = 255
    for name, array in (("wide", pixels), ("tall", pixels.T)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
        image = decode(tmp_path / f"{name}.png", (1, 10, 10))[0]
        assert (image > 200).all(), image


def test_images_are_rotated_as_the_camera_recorded(tmp_path: Path) -> None:
    pixels = numpy.zeros((8, 8), numpy.uint8)
    pixels[:, :4] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the upper half is white
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = decode(tmp_path / "turned.png", (1, 8, 8))[0]
    assert (image[:4] == 255).all()
    assert (image[4:] == 0).all()


def corrupt(root: Path) -> None:
    (root / "cats" / "empty.png").touch()
    (root / "cats" / "text.jpg").write_text("no image")
    whole = (root / "cats" / "image 0.png").read_bytes()
    (root / "cats" / "cut.png").write_bytes(whole[: len(whole) // 2])


def test_corrupt_files_are_named(classes: Path) -> None:
    corrupt(classes)
    for _ in range(2):  # read, and from the cache
        with pytest.raises(InputError) as caught:
            ImageFolder(classes, image_size=8).prepare_data()
        message = str(caught.value)
        assert "\n" not in message
        for part in ("3 of ", "empty.png", "text.jpg", "cut.png", "--data.skip_corrupt true"):
            assert part in message


def test_corrupt_files_are_skipped_on_request_with_their_labels(classes: Path) -> None:
    whole, labels = ImageFolder(classes, image_size=8).images("train")
    corrupt(classes)
    with pytest.warns(UserWarning, match=r"empty\.png"):
        skipped, skipped_labels = ImageFolder(classes, image_size=8, skip_corrupt=True).images("train")
    assert labels is not None
    assert skipped_labels is not None
    assert torch.equal(whole, skipped)
    assert torch.equal(labels, skipped_labels)


def test_a_folder_of_corrupt_files_only_is_refused(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i}.png").touch()
    with refuses(tmp_path):
        ImageFolder(tmp_path, skip_corrupt=True).prepare_data()


def test_images_are_decoded_once(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ImageFolder(classes, image_size=8).images("train")[0]

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patched:
        patched.setattr("gan_lightning.data.decoding.decode", never)
        assert torch.equal(ImageFolder(classes, image_size=8).images("train")[0], first)
    assert ImageFolder(classes, image_size=9).images("train")[0].shape[2] == 9
    path = classes / ImageFolder(classes).files["train"].paths[0]
    Image.fromarray(255 - noise(20, 20)).save(path.with_suffix(".png"))
    os.utime(path, (1, 1))
    assert not torch.equal(ImageFolder(classes, image_size=8).images("train")[0], first)


def test_a_damaged_cache_is_made_again(classes: Path, tmp_path: Path) -> None:
    first = ImageFolder(classes, image_size=8).images("train")[0]
    (cache,) = (tmp_path / "data" / "image_folder_cache").glob("*.npy")
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 255
    cache.write_bytes(bytes(content))
    assert torch.equal(ImageFolder(classes, image_size=8).images("train")[0], first)


def test_a_large_folder_is_read_by_workers_in_the_same_format(classes: Path) -> None:
    loaders: list[Any] = []
    for limit in (2**30, 100):
        data = ImageFolder(
            classes, image_size=8, channels=1, batch_size=4, num_workers=0, max_bytes_on_device=limit, pack=False
        )
        trainer = fit(small_gan(), data, max_steps=2)
        loaders.append(trainer.train_dataloader)
    device, worker = loaders
    assert isinstance(device, DeviceLoader)
    assert isinstance(worker, WorkerLoader)
    for loader in loaders:
        loader.load_state_dict({"images": 0})
        loader.sampler.set_epoch(0)
    for (ours, our_labels), (theirs, their_labels) in zip(device, worker, strict=True):
        assert torch.equal(ours, theirs)
        assert our_labels is not None
        assert their_labels is not None
        assert torch.equal(our_labels, their_labels)


@pytest.mark.parametrize("steps", [4, 5], ids=["at the end of an epoch", "within an epoch"])
def test_processes_that_decode_end_with_the_run(classes: Path, steps: int) -> None:
    """Left to Python's garbage collector, each would take five seconds to end."""
    data = ImageFolder(classes, image_size=8, channels=1, batch_size=8, num_workers=2, max_bytes_on_device=100, pack=False)
    begun = set(multiprocessing.active_children())
    trainer = fit(small_gan(), data, max_steps=steps)
    assert isinstance(trainer.train_dataloader, WorkerLoader)
    assert len(trainer.train_dataloader) == 4
    assert set(multiprocessing.active_children()) <= begun


def test_a_large_folder_shows_examples_and_all_images(classes: Path) -> None:
    small = ImageFolder(classes, image_size=8)
    large = ImageFolder(classes, image_size=8, max_bytes_on_device=100, pack=False)
    assert small.num_images("train") == large.num_images("train") == len(small.images("train")[0])
    few = torch.tensor([1, 4])
    for ours, theirs in (
        (small.examples(2, 3), large.examples(2, 3)),
        (small.images("train"), large.images("train")),
        (small.images_at("train", few), large.images_at("train", few)),
    ):
        assert torch.equal(ours[0], theirs[0])
        assert ours[1] is not None
        assert theirs[1] is not None
        assert torch.equal(ours[1], theirs[1])


def test_many_files_are_decoded_by_workers(tmp_path: Path) -> None:
    for i in range(520):
        write(tmp_path / "many" / f"{i:03}.png", 8, 8, seed=i)
    data = ImageFolder(tmp_path / "many", image_size=8, num_workers=2)
    images, _ = data.images("train")
    paths = data.files["train"].paths
    assert len(images) == len(paths)
    for i in (0, 100, len(images) - 1):
        assert torch.equal(images[i], decode(tmp_path / "many" / paths[i], (3, 8, 8)))


def test_links_are_followed_once_and_hidden_files_left_out(classes: Path) -> None:
    count = len(ImageFolder(classes).files["train"].paths) + len(ImageFolder(classes).files["test"].paths)
    (classes / "cats" / "loop").symlink_to(classes, target_is_directory=True)
    write(classes / ".thumbnails" / "a.png")
    write(classes / "cats" / ".hidden.png")
    data = ImageFolder(classes)
    assert len(data.files["train"].paths) + len(data.files["test"].paths) == count


def test_a_broken_link_is_a_corrupt_file(classes: Path) -> None:
    (classes / "cats" / "broken.png").symlink_to(classes / "nowhere.png")
    with refuses("1 of ", "broken.png", "--data.skip_corrupt true"):
        ImageFolder(classes, image_size=8).prepare_data()


def test_an_unwritable_cache_only_prints_a_warning(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_LIGHTNING_DATA", "/dev/null")
    with pytest.warns(UserWarning, match="/dev/null"):
        assert len(ImageFolder(classes, image_size=8).images("train")[0]) > 30


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares a size."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(1000)), b"IEND": b""}
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def in_format(name: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(stream, name)
    return stream.getvalue()


BOMBS = {
    "bomb.png": png(60_000, 60_000),
    "bomb.ppm": b"P6 60000 60000 255\n" + bytes(1000),
    "bomb.gif": b"GIF89a"
    + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
    + struct.pack("<cHHHHB", b",", 0, 0, 60_000, 60_000, 0)
    + bytes(1000),
    "bomb.bmp": b"BM"
    + struct.pack("<IIIIiiHHIIiiII", 1054, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 1000, 0, 0, 0, 0)
    + bytes(1000),
}
HOSTILE = {
    **BOMBS,
    "empty.png": b"",
    "text.png": b"no image",
    "postscript.png": in_format("EPS"),
    "pdf.png": in_format("PDF"),
    "cut.png": in_format("PNG")[:-40],
    "cut in its header.png": in_format("PNG")[:20],
    "cut.jpg": in_format("JPEG")[:-40],
    "cut in its header.jpg": in_format("JPEG")[:30],
    "cut.tif": in_format("TIFF")[:50],
    "cut.gif": in_format("GIF")[:-60],
    "cut.webp": in_format("WEBP")[:-40],
    "cut.bmp": in_format("BMP")[:-40],
    "cut mit Ümläut und 文字.png": b"",
}


@pytest.mark.parametrize("name", [*HOSTILE, "pipe.png", "link to a pipe.png", "loop.png", "dangling.png", "device.png"])
@pytest.mark.timeout(60)
def test_a_hostile_file_is_named_or_skipped(classes: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageFolder(classes, image_size=8)
    whole = data.images("train")[0]
    path = classes / "cats" / name
    if name in HOSTILE:
        path.write_bytes(HOSTILE[name])
    elif name == "pipe.png":
        os.mkfifo(path)
    else:
        os.mkfifo(classes / "pipe")
        target = {"link": classes / "pipe", "loop": path, "dang": classes / "nowhere", "devi": Path("/dev/zero")}[name[:4]]
        path.symlink_to(target)
    monkeypatch.setattr("gan_lightning.data.tree.is_held_out", lambda path: is_held_out(path) and not path.endswith(name))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    if name in BOMBS:
        with monkeypatch.context() as patched:
            patched.setattr("PIL.Image.core.new", lambda *_: pytest.fail("the pixels were given room"))
            for read in (survey_folder, lambda folder: read_folder(folder, (3, 8, 8))):
                with refuses(name, "exceeds limit"):
                    read(_alone(path))
    with pytest.raises(InputError) as caught:
        ImageFolder(classes, image_size=8).prepare_data()
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(f"cats/{name} (") == 1
    monkeypatch.undo()
    monkeypatch.setattr("gan_lightning.data.tree.is_held_out", lambda path: is_held_out(path) and not path.endswith(name))
    with refuses(name):
        read_folder(_alone(path), (3, 8, 8))
    with pytest.warns(UserWarning, match=re.escape(name)):
        assert torch.equal(ImageFolder(classes, image_size=8, skip_corrupt=True).images("train")[0], whole)


def _alone(path: Path) -> Path:
    """Copy a file into a new folder."""
    folder = path.parents[2] / "alone"
    folder.mkdir(exist_ok=True)
    if not list(folder.iterdir()):
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize("ending", sorted(SUFFIXES))
@pytest.mark.parametrize("written", ["BMP", "GIF", "PNG", "PPM", "TIFF"])
def test_an_image_with_the_wrong_ending_is_read(tmp_path: Path, ending: str, written: str) -> None:
    pixels = noise(8, 8) if written != "GIF" else numpy.repeat(noise(8, 8, 1)[:, :, None], 3, axis=2)
    Image.fromarray(pixels).save(tmp_path / "image", written)
    (tmp_path / "image").rename(tmp_path / f"image{ending}")
    assert torch.equal(decode(tmp_path / f"image{ending}", (3, 8, 8)), torch.from_numpy(pixels).permute(2, 0, 1))


def test_a_folder_with_the_name_of_an_image_is_a_class(classes: Path) -> None:
    (classes / "empty.png").mkdir()
    write(classes / "wolves.png" / "1.png")
    assert tuple(ImageFolder(classes).class_names) == ("cats", "dogs and wölfe", "wolves.png")


@pytest.mark.parametrize("name", [b"caf\xe9", "文字 \N{SNOWMAN}".encode(), b"two\nlines", b"\x1b[31m", b"-rf", b"a'b\"c"])
def test_any_file_name_is_allowed(tmp_path: Path, name: bytes) -> None:
    """Names need not be UTF-8: such files are used for training, and errors about them are one line."""
    for folder in (name, b"other"):
        for i in range(8):
            path = tmp_path / "photos" / os.fsdecode(folder) / os.fsdecode(name + b"%d.png" % i)
            write(path, seed=i)
    data = ImageFolder(tmp_path / "photos", image_size=8, channels=1, batch_size=4)
    assert set(data.class_names) == {os.fsdecode(name), "other"}
    assert fit(small_gan(), data, max_steps=2).global_step == 2
    for path in (tmp_path / "photos").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        ImageFolder(tmp_path / "photos", image_size=8).prepare_data()
    assert "\n" not in str(caught.value)
    if name.isascii():
        return
    # printing what is no ASCII may fail
    command = [sys.executable, str(SCRIPT), "--config", "folder_64", "--data.root", "photos"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 2
    error_line(done.stderr.decode(errors="replace"), "--data.skip_corrupt true")


def test_an_image_outside_the_subfolders_is_reported(classes: Path) -> None:
    write(classes / "cover.jpg")
    with pytest.warns(UserWarning, match=r"no labels.*cover\.jpg"):
        assert ImageFolder(classes).num_classes == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"root": "nowhere"}, "nowhere"),
        ({"root": "file"}, "file"),
        ({"root": "empty"}, "empty"),
        ({"root": "one", "image_size": 0}, "image_size is 0"),
        ({"root": "one", "channels": 2}, "channels is 2"),
        ({"root": "one", "num_workers": -1}, "num_workers is -1"),
    ],
)
def test_bad_folders(tmp_path: Path, arguments: dict[str, object], named: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    write(tmp_path / "one" / "1.png")
    with refuses(named):
        ImageFolder(**arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_an_unreadable_folder(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with refuses(tmp_path / "locked", "--data.root"):
        ImageFolder(tmp_path / "locked")


def test_an_unreadable_folder_as_seen_by_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "locked" / "1.png")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with refuses(tmp_path / "locked", "--data.root"):
        ImageFolder(tmp_path / "locked")


def test_too_few_images_for_a_test_split(tmp_path: Path) -> None:
    held_out = next(f"{i}.png" for i in range(1000) if is_held_out(f"{i}.png"))
    kept = next(f"{i}.png" for i in range(1000) if not is_held_out(f"{i}.png"))
    write(tmp_path / "kept" / kept)
    data = ImageFolder(tmp_path / "kept", image_size=8)
    assert len(data.images("train")[0]) == 1
    with refuses(tmp_path / "kept", "test"):
        data.images("test")
    write(tmp_path / "out" / held_out)
    assert len(ImageFolder(tmp_path / "out", image_size=8).images("train")[0]) == 1


@pytest.mark.real_data
def test_the_real_cifar10_jpegs(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = real_data / "cifar10-jpg"
    if not root.is_dir():
        pytest.skip("no cifar10-jpg below GAN_LIGHTNING_DATA")
    monkeypatch.setenv("GAN_LIGHTNING_DATA", str(tmp_path))  # a cache of this test alone
    data = ImageFolder(root, image_size=32)
    images, labels = data.images("test")
    assert images.shape == (10_000, 3, 32, 32)
    assert labels is not None
    assert torch.bincount(labels).tolist() == [1000] * 10
