"""Folders of images as evaluate.py and compute_reference.py measure them."""

import json
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from jsonargparse import Namespace
from PIL import Image

from gan_lightning.commands.common.real_images import common_shape
from gan_lightning.commands.verbs import Verb
from gan_lightning.data.image_set import survey_images
from tests.helpers import refusal

main = Verb.evaluate.main
TINY = ["--extractor", "tests.metrics.extractors.Tiny", "--metrics", "fid"]


def record(args: Sequence[str]) -> dict[str, Any]:
    assert main([*args, *TINY, "--output", "record.json"]) == 0
    found: dict[str, Any] = json.loads(Path("record.json").read_text())
    return found


def photographs(count: int, height: int = 30, width: int = 40) -> list[Image.Image]:
    random = numpy.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=numpy.uint8)) for _ in range(count)]


def save(folder: str, images: Sequence[Image.Image], **options: Any) -> None:
    Path(folder).mkdir()
    for number, image in enumerate(images):
        image.save(Path(folder, f"{number:03}.png"), **options)


def test_one_grey_photograph_does_not_grey_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does one small one shrink them: all files decide, and the counts are printed and recorded."""
    first, *others = photographs(30)
    save("photos", [first.convert("L").resize((4, 3)), *others])
    save("real", [*others, first])
    found = record(["photos", "--real", "real"])["protocol"]
    assert found["image_shape"] == [3, 30, 40]
    assert found["source_recoloured"].startswith("1 image, ")
    assert found["source_resized"].startswith("1 image, ")
    assert (found["real_recoloured"], found["real_resized"]) == ("none", "none")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("photos: ")]
    assert len(lines) == 2
    assert all("1 of 30 images" in line for line in lines)


def test_flags_choose_the_shape(capsys: pytest.CaptureFixture[str]) -> None:
    save("photos", photographs(30))
    assert record(["photos", "--real", "photos", "--image_size", "16"])["protocol"]["image_shape"] == [3, 16, 16]
    for channels in (1, 3):
        assert common_shape(Namespace(channels=channels, image_size=None), survey_images(Path("photos"))) == (channels, 30, 40)
    refusal(main, ["digits", "--channels", "1"], capsys, "--channels 1")
    refusal(main, ["digits", "--white", "4095"], capsys, "--white 4095")
    refusal(main, ["photos", "--real", "photos", "--white", "0"], capsys, "--white")
    refusal(main, ["photos", "--real", "photos", "--channels", "2"], capsys, "--channels")
    refusal(Verb.compute_reference.main, ["--data", "Digits", "--channels", "1"], capsys, "--channels 1", "--real")


def test_turned_copies_measure_as_the_upright_pictures() -> None:
    upright = photographs(30, 40, 30)
    save("upright", upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    save("turned", [image.transpose(Image.Transpose.ROTATE_90) for image in upright], exif=exif)
    found = record(["turned", "--real", "upright"])
    assert next(iter(found["metrics"].values())) == pytest.approx(0, abs=1e-4)
    protocol = found["protocol"]
    assert protocol["image_shape"] == [3, 40, 30]
    assert (protocol["source_resized"], protocol["real_resized"]) == ("none", "none")


@pytest.mark.parametrize("archived", [False, True])
def test_images_that_cannot_be_read(archived: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """With --skip_corrupt, the others are measured, and the record counts what is missing."""
    save("whole", photographs(12))
    save("photos", photographs(12))
    names = "photos/003.png", "photos/007.png"
    for name in names:
        Path(name).write_bytes(Path(name).read_bytes()[:1000])
        Path(name.replace("photos", "whole")).unlink()
    source = "photos"
    if archived:
        source = "photos.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(Path("photos").iterdir()):
                archive.write(path)
    refusal(main, [source, "--real", "whole", *TINY], capsys, "2 of 12", *names, "--skip_corrupt")
    refusal(main, ["digits", "--skip_corrupt"], capsys, "--skip_corrupt")
    found = record([source, "--real", "whole", "--skip_corrupt"])
    assert found["metrics"] == {"tiny_fd_10": pytest.approx(0, abs=1e-6)}
    assert found["protocol"]["source_skipped"].startswith("2 ")
    assert found["protocol"]["real_skipped"].startswith("0 ")
    for path in Path("photos").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    refusal(main, ["photos", "--real", "whole", "--skip_corrupt", *TINY], capsys, "12 of 12")


def test_white_of_measured_folders(caplog: pytest.LogCaptureFixture) -> None:
    """12 bits of 16 measure as the same images of 8 bits, with --white."""
    levels = numpy.random.default_rng(0).integers(0, 256, (30, 16, 16), dtype=numpy.uint16)
    save("eight", [Image.fromarray(image.astype(numpy.uint8)) for image in levels])
    save("twelve", [Image.fromarray((image * (4095 / 255)).round().astype(numpy.uint16)) for image in levels])
    args = ["twelve", "--real", "eight", "--channels", "3"]
    with caplog.at_level(logging.INFO):
        dark = record(args)
    assert "--white 4095" in caplog.text
    right = record([*args, "--white", "4095"])
    assert next(iter(right["metrics"].values())) == pytest.approx(0, abs=1e-4)
    assert next(iter(dark["metrics"].values())) > 0.01


def test_an_array_and_an_archive_measure_as_their_folder() -> None:
    made = photographs(30)
    save("real", photographs(40))
    save("photos", made)
    pixels = numpy.stack([numpy.asarray(image) for image in made])
    numpy.savez("photos.npz", images=pixels.transpose(0, 3, 1, 2))
    numpy.save("photos.npy", pixels)
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for path in sorted(Path("photos").iterdir()):
            archive.write(path, path.name)
    expected = record(["photos", "--real", "real"])
    for source in ("photos.npz", "photos.npy", "photos.zip"):
        found = record([source, "--real", "real"])
        assert found["metrics"] == expected["metrics"]
        assert found["protocol"]["source_sha256"] == expected["protocol"]["source_sha256"]
    assert next(iter(record(["photos", "--real", "photos.zip"])["metrics"].values())) == pytest.approx(0, abs=1e-4)


def test_floats_and_statistics_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    numpy.save("floats.npy", numpy.random.default_rng(0).uniform(-1, 1, (30, 3, 8, 8)))
    numpy.savez("statistics.npz", mu=numpy.zeros(3), sigma=numpy.eye(3))
    save("real", photographs(30))
    refusal(main, ["floats.npy", "--real", "real", *TINY], capsys, "floats.npy", "(x + 1) * 127.5")
    refusal(main, ["real", "--real", "floats.npy", *TINY], capsys, "floats.npy", "uint8")
    refusal(main, ["statistics.npz", "--real", "real", *TINY], capsys, "--reference statistics.npz")
    refusal(main, ["floats.npy", "--real", "real", "--raw", *TINY], capsys, "--raw", "floats.npy")


def test_a_single_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save("real", photographs(30))
    for name in ("real/000.png", "notes.txt", "last.ckpt"):
        if name != "real/000.png":
            Path(name).write_text("no image")
        refusal(main, [name, "--real", "real", *TINY], capsys, name, "a checkpoint of train.py", ".npz")
        refusal(main, ["real", "--real", name, *TINY], capsys, f"--real {name}", ".npz")
