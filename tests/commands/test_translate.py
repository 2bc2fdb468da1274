"""The translate command: files, folders, arrays, masks, tiles, resuming, kills, refusals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

import gan_lightning
from gan_lightning.commands.translate.run import BATCH_PIXELS, DESCRIPTION, output_names
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Edges
from gan_lightning.pictures import read_png
from tests.commands.translations import photographs, write_all
from tests.helpers import refusal, refuses

main = Verb.translate.main


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: str(path) for name, path in write_all(tmp_path_factory.mktemp("translations")).items()}


@pytest.fixture
def image() -> Tensor:
    """A photograph, also as ``photo.png``."""
    photo = photographs(1, (3, 13, 22))[0]
    to_pil_image(photo).save("photo.png")
    return photo


def write_photos(folder: str, sizes: list[tuple[int, int]], suffixes: str = ".png") -> dict[str, Tensor]:
    """Write photographs below a folder, some in a subfolder: path -> image."""
    written = {}
    for i, size in enumerate(sizes):
        name = f"{'below/' * (i % 3 == 2)}{i}{suffixes}"
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        written[name] = photographs(i + 1, (3, *size))[-1]
        to_pil_image(written[name]).save(path)
    return written


def test_a_file(paths: dict[str, str], image: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([paths["colour"], "photo.png"]) == 0
    assert "translated.png" in capsys.readouterr().out
    expected = gan_lightning.load(paths["colour"]).translate(image[None])[0]
    assert torch.equal(read_png(Path("translated.png")), expected)
    refusal(main, [paths["colour"], "photo.png"], capsys, "translated.png")
    assert main([paths["colour"], "photo.png", "--raw", "--overwrite"]) == 0
    assert not torch.equal(read_png(Path("translated.png")), expected)
    refusal(main, [paths["colour"], "photo.png", "--output", "photo.png", "--overwrite"], capsys, "photo.png")
    assert main([paths["enlarge"], "photo.png", "--output", "large.png"]) == 0
    assert read_png(Path("large.png")).shape == (3, 26, 44)


def test_a_photograph_that_lies_is_turned(paths: dict[str, str], image: Tensor) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.open("photo.png").save("lying.png", exif=exif)
    assert main([paths["colour"], "lying.png"]) == 0
    assert read_png(Path("translated.png")).shape == (3, 22, 13)


def test_an_array(paths: dict[str, str]) -> None:
    images = photographs(5)
    numpy.save("images.npy", images.numpy())
    numpy.savez("images.npz", images=images.permute(0, 2, 3, 1).numpy())
    expected = gan_lightning.load(paths["enlarge"]).translate(images, batch_size=2)
    for name in ("images.npy", "images.npz"):
        assert main([paths["enlarge"], name, "--batch_size", "2", "--output", f"of_{name[-3:]}.npz"]) == 0
        assert numpy.array_equal(numpy.load(f"of_{name[-3:]}.npz")["images"], expected.numpy())
    masks = torch.zeros(5, 1, 16, 16, dtype=torch.uint8)
    masks[:, :, :, 8:] = 255
    numpy.save("masks.npy", masks.numpy())
    assert main([paths["fill"], "images.npy", "--mask", "masks.npy"]) == 0
    filled = gan_lightning.load(paths["fill"]).translate(images, masks)
    assert numpy.array_equal(numpy.load("translated.npz")["images"], filled.numpy())


def test_a_folder_mirrors_its_names(paths: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos("photos", [(8, 9), (8, 9), (8, 9), (8, 9), (12, 7), (8, 9)])
    assert main([paths["colour"], "photos", "--output", "out", "--batch_size", "2"]) == 0
    translator = gan_lightning.load(paths["colour"])
    found = {str(path.relative_to("out")) for path in Path("out").rglob("*.png")}
    assert found == photos.keys()
    for name, photo in photos.items():
        assert (read_png(Path("out", name)).int() - translator.translate(photo[None])[0].int()).abs().max() <= 1
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}

    Path("out/0.png").write_bytes(Path("out/0.png").read_bytes()[:60])  # cut by a power failure
    Path("out/below/2.png").unlink()
    Path("out/below/.2.png.0123abcd.part.png").write_bytes(b"cut")  # of a killed process
    capsys.readouterr()
    assert main([paths["colour"], "photos", "--output", "out"]) == 0
    assert "4 of them from an earlier call" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    assert after.keys() == before.keys()
    assert {path.name for path in before if before[path] != after[path]} == {"0.png", "2.png"}

    refusal(main, [paths["colour"], "photos", "--output", "out", "--raw"], capsys, "out", "weights", "--overwrite")
    assert main([paths["colour"], "photos", "--output", "out", "--raw", "--overwrite"]) == 0
    raw = gan_lightning.load(paths["colour"], raw=True).translate(photos["0.png"][None])[0]
    assert (read_png(Path("out/0.png")).int() - raw.int()).abs().max() <= 1


def test_names() -> None:
    names = output_names(["a.jpg", "b.webp", "b.png", "x/a.tif", "x/b", "c.d.jpeg"])
    assert names == {
        "a.jpg": "a.png",
        "b.webp": "b.webp.png",
        "b.png": "b.png.png",
        "x/a.tif": "x/a.png",
        "x/b": "x/b.png",
        "c.d.jpeg": "c.d.png",
    }
    with refuses("a.jpg"):
        output_names(["a.jpg", "a.gif", "a.jpg.png"])


def test_damaged_files(paths: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write_photos("photos", [(8, 8)] * 4)
    Path("photos/1.png").write_bytes(b"no image")
    refusal(main, [paths["colour"], "photos"], capsys, "1.png", "--skip_corrupt")
    assert main([paths["colour"], "photos", "--skip_corrupt"]) == 0
    assert {str(path.relative_to("translated")) for path in Path("translated").rglob("*.png")} == {
        "0.png",
        "3.png",
        "below/2.png",
    }
    refusal(main, [paths["colour"], "photos/1.png"], capsys, "photos/1.png")


def test_masks(paths: dict[str, str], image: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    mask = torch.zeros(1, 13, 22, dtype=torch.uint8)
    mask[:, 2:9, 5:11] = 255
    to_pil_image(mask).save("mask.png")
    assert main([paths["fill"], "photo.png", "--mask", "mask.png"]) == 0
    expected = gan_lightning.load(paths["fill"]).translate(image[None], mask[None])[0]
    assert torch.equal(read_png(Path("translated.png")), expected)
    refusal(main, [paths["fill"], "photo.png", "--output", "a.png"], capsys, "--mask")
    refusal(main, [paths["colour"], "photo.png", "--mask", "mask.png", "--output", "a.png"], capsys, "--mask mask.png")
    to_pil_image(mask[:, 1:]).save("small.png")
    args = [paths["fill"], "photo.png", "--mask", "small.png", "--output", "a.png"]
    refusal(main, args, capsys, "small.png is 12x22", "photo.png 13x22")

    photos = write_photos("photos", [(8, 8)] * 3)
    for name in photos:
        path = Path("masks", name).with_suffix(".bmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(mask[:, 2:10, 3:11]).save(path)
    assert main([paths["fill"], "photos", "--mask", "masks"]) == 0
    hole = mask[None, :, 2:10, 3:11]
    for name, photo in photos.items():
        filled = gan_lightning.load(paths["fill"]).translate(photo[None], hole)[0]
        assert (read_png(Path("translated", name)).int() - filled.int()).abs().max() <= 1
    Path("masks/0.bmp").unlink()
    refusal(main, [paths["fill"], "photos", "--mask", "masks", "--output", "b"], capsys, "masks", "0.png")
    refusal(main, [paths["fill"], "photo.png", "--mask", "masks", "--output", "a.png"], capsys, "--mask masks")


def test_directions_and_tiles(paths: dict[str, str], image: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    for direction in ("AtoB", "BtoA"):
        assert main([paths["cycle"], "photo.png", "--direction", direction, "--output", f"{direction}.png"]) == 0
    assert not torch.equal(read_png(Path("AtoB.png")), read_png(Path("BtoA.png")))
    refusal(main, [paths["colour"], "photo.png", "--direction", "BtoA"], capsys, "direction is BtoA")
    refusal(main, [paths["colour"], "photo.png", "--direction", "back"], capsys, "--direction")
    assert main([paths["enlarge"], "photo.png", "--tile", "12", "--overlap", "4"]) == 0
    tiled = gan_lightning.load(paths["enlarge"]).translate(image[None], tile=12, overlap=4)[0]
    assert torch.equal(read_png(Path("translated.png")), tiled)
    refusal(main, [paths["enlarge"], "photo.png", "--tile", "12", "--output", "a.png"], capsys, "--tile 12", "--overlap 32")
    args = [paths["colour"], "photo.png", "--tile", "12", "--overlap", "10", "--output", "a.png"]
    refusal(main, args, capsys, "tile is 12", "14")  # two halvings: tiles begin at multiples of 4


def test_sources_are_made_as_in_training(paths: dict[str, str], image: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([paths["draw"], "photo.png", "--degrade"]) == 0
    drawing = Edges()(image[None], torch.empty(1, 0))
    expected = gan_lightning.load(paths["draw"]).translate(drawing)[0]
    assert torch.equal(read_png(Path("translated.png")), expected)
    assert main([paths["enlarge"], "photo.png", "--degrade", "--output", "same.png"]) == 0
    assert read_png(Path("same.png")).shape == (3, 12, 22)
    write_photos("photos", [(8, 8)] * 3)
    assert main([paths["fill"], "photos", "--degrade"]) == 0
    refusal(main, [paths["cycle"], "photo.png", "--degrade", "--output", "a.png"], capsys, "--degrade")


def test_bad_input(paths: dict[str, str], plain: str, image: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(main, [plain, "photo.png"], capsys, "MLPGenerator", "sample.py")
    refusal(main, ["digits", "photo.png"], capsys, "sample.py")
    for verb, more in (("sample", []), ("interpolate", []), ("invert", ["photo.png"])):
        refusal(Verb[verb].main, [paths["colour"], *more], capsys, "UNetGenerator", "translate.py")
    ckpt = paths["colour"]
    refusal(main, [ckpt, "nothing.png"], capsys, "nothing.png")
    Path("empty").mkdir()
    refusal(main, [ckpt, "empty"], capsys, "empty")
    write_photos("photos", [(8, 8)])
    refusal(main, [ckpt, "photos", "--output", "photos/out"], capsys, "photos/out")
    refusal(main, [ckpt, "photos", "--output", "photos"], capsys, "photos")
    refusal(main, [ckpt, "photos", "--output", "out.png"], capsys, "out.png")
    refusal(main, [ckpt, "photo.png", "--output", "out"], capsys, "out", ".png")
    refusal(main, [ckpt, "photo.png", "--mask", "nothing.png"], capsys, "nothing.png")
    refusal(main, [ckpt, "photo.png", "--skip_corrupt"], capsys, "--skip_corrupt")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("x")
    refusal(main, [ckpt, "photos", "--output", "mine"], capsys, "mine")
    assert not list(Path("mine").glob("*.png"))


def test_a_killed_folder_is_resumed(paths: dict[str, str]) -> None:
    """kill -9 at any moment leaves only whole files; the next call adds the others."""
    side = int((BATCH_PIXELS // 3) ** 0.5)
    photos = write_photos("photos", [(side, side)] * 9)
    script = Path(__file__).parents[2] / "scripts" / "translate.py"
    words = [sys.executable, str(script), paths["colour"], "photos", "--accelerator", "cpu"]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while len(list(Path("translated").rglob("*.png"))) < 3 and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    early = {path: path.stat().st_mtime_ns for path in Path("translated").rglob("[0-9].png")}
    assert early
    assert all(read_png(path).shape == (3, side, side) for path in early)
    assert main([paths["colour"], "photos"]) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in early.items())
    assert {str(path.relative_to("translated")) for path in Path("translated").rglob("*.png")} == photos.keys()
    assert not list(Path("translated").rglob(".*"))
    assert Path("translated", DESCRIPTION).is_file()
    shutil.rmtree("translated")
