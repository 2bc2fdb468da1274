"""Arrays and archives of images."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from gan_lightning.data.folder import read_folder
from gan_lightning.data.image_set import read_images, survey_images
from gan_lightning.data.stored import whole
from tests.helpers import refuses

SHAPE = (3, 12, 20)
PIXELS = numpy.random.default_rng(0).integers(0, 256, (6, 12, 20, 3), dtype=numpy.uint8)
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def entries() -> dict[str, bytes]:
    """Those of a webdataset: an image, a class and a description each; and rubbish of a system."""
    made = {f"{i:04}.{kind}": png(PIXELS[i]) if kind == "png" else b"1" for i in range(6) for kind in ("png", "cls", "json")}
    return {**made, "__MACOSX/._0000.png": b"rubbish", ".hidden.png": b"rubbish"}


def write_zip(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in reversed(content.items()):  # the order is that of the names
            archive.writestr(name, data)


def write_tar(path: Path, content: dict[str, bytes]) -> None:
    modes: dict[str, Any] = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
    with tarfile.open(path, modes.get(path.suffix, "w")) as archive:
        for name, data in reversed(content.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


ARRAYS: dict[str, Callable[[], None]] = {
    "nhwc.npy": lambda: numpy.save("nhwc.npy", PIXELS),
    "nchw.npy": lambda: numpy.save("nchw.npy", PIXELS.transpose(0, 3, 1, 2)),
    "images.npz": lambda: numpy.savez("images.npz", images=PIXELS.transpose(0, 3, 1, 2)),
    "arr_0.npz": lambda: numpy.savez("arr_0.npz", PIXELS, numpy.arange(6)),
    "packed.npz": lambda: numpy.savez_compressed("packed.npz", own=PIXELS),
    "a.zip": lambda: write_zip(Path("a.zip"), entries()),
    "a.tar": lambda: write_tar(Path("a.tar"), entries()),
    "a.tar.gz": lambda: write_tar(Path("a.tar.gz"), entries()),
    "a.tgz": lambda: write_tar(Path("a.tgz"), entries()),
    "a.tar.bz2": lambda: write_tar(Path("a.tar.bz2"), entries()),
    "a.tar.xz": lambda: write_tar(Path("a.tar.xz"), entries()),
    "outside.zip": lambda: write_zip(Path("outside.zip"), {f"../../{name}": data for name, data in entries().items()}),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_every_kind_reads_as_the_same_images(name: str) -> None:
    ARRAYS[name]()
    found = survey_images(Path(name))
    assert (list(found.sizes), found.grey) == ([(20, 12)] * 6, 0)
    assert torch.equal(whole(read_images(Path(name), SHAPE)), EXPECTED)
    assert whole(read_images(Path(name), (1, 6, 6))).shape == (6, 1, 6, 6)


def test_an_archive_reads_as_the_folder_does(tmp_path: Path) -> None:
    """Upright, of 8 bits, on white, of any size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    Image.fromarray(PIXELS[0]).save(tmp_path / "photos" / "a.jpg", exif=exif)
    Image.fromarray(PIXELS[1, :, :, 0].astype(numpy.uint16) * 16).save(tmp_path / "photos" / "b.png")
    Image.fromarray(numpy.concatenate([PIXELS[2], PIXELS[3][..., :1]], 2)).save(tmp_path / "photos" / "c.png")
    Image.fromarray(PIXELS[4]).resize((50, 50)).save(tmp_path / "photos" / "d.webp")
    write_zip(tmp_path / "a.zip", {path.name: path.read_bytes() for path in (tmp_path / "photos").iterdir()})
    for white in (None, 4095):
        assert torch.equal(
            whole(read_images(tmp_path / "a.zip", (3, 8, 8), white)), whole(read_folder(tmp_path / "photos", (3, 8, 8), white))
        )
    assert sorted(survey_images(tmp_path / "a.zip").sizes) == sorted(survey_images(tmp_path / "photos").sizes)


@pytest.mark.parametrize("shape", [(6, 12, 20), (6, 12, 20, 1), (6, 1, 12, 20)])
def test_grey_arrays(shape: tuple[int, ...]) -> None:
    grey = PIXELS[..., 0]
    numpy.save("grey.npy", grey.reshape(shape))
    assert survey_images(Path("grey.npy")).grey == 6
    assert torch.equal(whole(read_images(Path("grey.npy"), (1, 12, 20)))[:, 0], torch.from_numpy(grey))


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (PIXELS.astype(numpy.float32) / 255, "x * 255"),
        (PIXELS.astype(numpy.float32) / 127.5 - 1, "(x + 1) * 127.5"),
        (PIXELS.astype(numpy.float64), "x.round()"),
        (PIXELS.astype(numpy.int64), "int64 from 0 to 255"),
        (PIXELS > 100, "bool"),
        ((PIXELS > 100).astype(numpy.uint8), "x * 255"),
        (PIXELS[0], "(12, 20, 3)"),
        (PIXELS[:0], "(0, 12, 20, 3)"),
        (PIXELS[:, :3, :3], "(6, 3, 3, 3)"),
        (numpy.concatenate([PIXELS, PIXELS[..., :2]], 3), "(6, 12, 20, 5)"),
        (numpy.array(["a", "b"]), "(2,)"),
        (numpy.array([{"a": 1}], dtype=object), "cannot be read"),
    ],
)
def test_arrays_of_something_else_are_refused(array: Any, named: str) -> None:
    """With what to do."""
    numpy.save("a.npy", array, allow_pickle=True)
    for read in (survey_images, lambda path: read_images(path, SHAPE)):
        with refuses("a.npy", named):
            read(Path("a.npy"))


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    numpy.savez("two.npz", one=PIXELS, other=PIXELS)
    numpy.savez("statistics.npz", mu=numpy.zeros(3), sigma=numpy.eye(3))
    numpy.savez("none.npz")
    write_zip(Path("texts.zip"), {"a.txt": b"1", "b.txt": b"2"})
    write_tar(Path("damaged.tar"), {"a.png": png(PIXELS[0])[:200], "b.png": png(PIXELS[1])})
    write_zip(Path("cut.zip"), entries())
    Path("cut.zip").write_bytes(Path("cut.zip").read_bytes()[:-30])
    write_tar(Path("cut.tar"), entries())
    Path("cut.tar").write_bytes(Path("cut.tar").read_bytes()[:600])
    for name in ("text.npy", "text.npz", "text.zip", "text.tar"):
        Path(name).write_text("no array")
    for name, named in {
        "two.npz": "one, other",
        "statistics.npz": "--reference statistics.npz",
        "none.npz": "none.npz",
        "texts.zip": ".txt 2",
        "damaged.tar": "a.png",
        **{name: name for name in ("cut.zip", "cut.tar", "text.npy", "text.npz", "text.zip", "text.tar")},
    }.items():
        with refuses(name, named):
            whole(read_images(Path(name), SHAPE))


def test_nothing_is_written_by_an_archive(tmp_path: Path) -> None:
    """Names that lead outside are names only."""
    write_tar(Path("a.tar"), {"/etc/evil.png": png(PIXELS[0]), "../../evil.png": png(PIXELS[1])})
    assert len(whole(read_images(Path("a.tar"), SHAPE))) >= 1
    assert [path.name for path in tmp_path.rglob("*")] == ["a.tar"]
    assert not any(Path(name).exists() for name in ("/evil.png", "../../evil.png"))
