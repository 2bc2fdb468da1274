"""The interpolate command, as users type it."""

import re
from pathlib import Path

import av
import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import gan_lightning
from gan_lightning.commands.verbs import Verb
from gan_lightning.metrics import classifier
from gan_lightning.pictures import grid
from tests.commands.checkpoints import write_checkpoint
from tests.commands.test_evaluate import LAST, SMALL, TINY, refused

main = Verb.interpolate.main
sample_main = Verb.sample.main
train_main = Verb.train.main


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("labelled") / "last.ckpt", (3, 16, 16), 3, "concatenation"))


def read(path: str) -> Tensor:
    with Image.open(path) as picture:
        pixels: Tensor = pil_to_tensor(picture.convert("RGB"))
    return pixels


def table(said: str) -> list[list[float]]:
    """The distances of each row that was printed, and last the usual one."""
    rows = [[float(word) for word in line.split()[1:]] for line in said.splitlines() if re.match(r" +\d+\.\d\d  ", line)]
    (usual,) = re.findall(r"(\S+) is the usual \(median\) distance", said)
    return [*rows, [float(usual)]]


def test_a_grid_has_a_row_for_each_leg(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = [labelled, "--seeds", "5,6,7", "--class", "1", "--frames", "3"]
    gan = gan_lightning.load(labelled)
    walked = gan.interpolate([5, 6, 7], 1, 3)
    assert main(args) == 0
    assert capsys.readouterr().out == "  class: 1\n  2 legs of 3 pictures: walk.png\n"
    assert torch.equal(read("walk.png"), grid(walked[[0, 1, 2, 3, 3, 4, 5, 6]], 4))
    assert main([*args, "--closed", "--output", "closed.png"]) == 0
    round_trip = gan.interpolate([5, 6, 7], 1, 3, closed=True)
    assert torch.equal(read("closed.png"), grid(round_trip[[0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 0]], 4))


def test_animations(labelled: str) -> None:
    args = [labelled, "--seeds", "5", "--class", "0,1,2", "--frames", "4", "--output"]
    assert main([*args, "a.gif", "--closed"]) == 0
    with Image.open("a.gif") as gif:
        assert gif.n_frames == 12  # type: ignore[attr-defined]
    assert main([*args, "a.mp4"]) == 0
    with av.open("a.mp4") as file:
        assert len(list(file.decode(video=0))) == 9


def test_the_neighbours_of_copies_are_the_copied(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Among the real images lie those that the generator draws: at a distance of 0, but for a grey level, side by side."""
    assert sample_main([labelled, "--num_images", "40", "--class", "2", "--seed", "9", "--output", "real"]) == 0
    Path("real", "sample.json").unlink()
    args = [labelled, "--seeds", "1,2", "--class", "2", "--frames", "4", "--neighbours", "2", "--real", "real", *TINY]
    capsys.readouterr()
    assert main([*args, "--output", "unlike.png"]) == 0
    *rows, (usual,) = table(capsys.readouterr().out)
    assert len(rows) == 5
    assert all(usual / 3 < row[0] <= row[1] for row in rows)
    for number, seed in enumerate((1, 2)):
        assert sample_main([labelled, "--num_images", "1", "--class", "2", "--seed", str(seed), "--output", f"{seed}"]) == 0
        Path(f"{seed}", "000000.png").rename(Path("real", f"copy{number}.png"))
    assert main([*args, "--output", "copied.png"]) == 0
    said = capsys.readouterr().out
    *rows, (usual,) = table(said)
    assert max(rows[0][0], rows[-1][0]) < usual / 20
    assert all(row[0] > usual / 5 for row in rows[1:-1])
    assert "A picture much nearer to a real image than that is a copy of it" in said
    picture = read("copied.png")
    assert picture.shape == (3, 5 * 50 + 2, 3 * 50 + 2)
    for top in (2, 4 * 50 + 2):
        drawn, found = (picture[:, top : top + 48, left : left + 48].int() for left in (2, 52))
        assert (drawn - found).abs().max() <= 1
    assert not torch.equal(picture[:, 52:100, 2:50], picture[:, 52:100, 52:100])


def test_neighbours_of_more_than_8_bits(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --white, the distances are those from the same images of 8 bits."""
    levels = numpy.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=numpy.uint16)
    for folder, images in {"8": levels.astype(numpy.uint8), "12": (levels * (4095 / 255)).round().astype(numpy.uint16)}.items():
        Path(folder).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(f"{folder}/{i:02}.png")
    args = [labelled, "--seeds", "1,2", "--class", "2", "--frames", "1", "--neighbours", "2", *TINY]
    tables = []
    for name, more in {"8": [], "12": ["--white", "4095"], "dark": []}.items():
        assert main([*args, "--real", name.replace("dark", "12"), *more, "--output", f"{name}.png"]) == 0
        tables.append(torch.tensor(table(capsys.readouterr().out)[0]))
    assert torch.allclose(tables[0], tables[1], rtol=0.01)
    assert not torch.allclose(tables[0], tables[2], rtol=0.1)
    for more in (["--neighbours", "1", "--data", "Digits"], []):
        assert "--white" in refused([labelled, "--white", "4095", *more], capsys, main, "interpolate")


def test_the_data_of_the_run_is_what_it_compares_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)
    assert train_main([*SMALL, "--max_steps", "2"]) == 0
    args = [LAST, "--seeds", "0,1", "--frames", "2", "--neighbours", "3"]
    capsys.readouterr()
    assert main(args) == 0
    said = capsys.readouterr().out
    assert "distance to the nearest real images (digits, classifier of digits)" in said
    *rows, (usual,) = table(said)
    assert [len(row) for row in rows] == [3, 3, 3]
    assert usual > 0
    assert all(row == sorted(row) for row in rows)
    assert main([*args, "--output", "few.png", "--num_real", "3"]) == 2
    assert "--neighbours 3" in capsys.readouterr().err
    assert main([*args, "--output", "some.png", "--num_real", "100"]) == 0
    few, _ = table(capsys.readouterr().out)[0], capsys.readouterr()
    assert few[0] >= rows[0][0]


def test_photographs_are_compared_by_imagenet(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample_main([labelled, "--num_images", "12", "--seed", "9", "--output", "real"]) == 0
    Path("real", "sample.json").unlink()
    args = [labelled, "--seeds", "1,2", "--class", "2", "--frames", "1", "--neighbours", "1", "--real", "real"]
    capsys.readouterr()
    assert main([*args, "--num_real", "10", "--output", "neighbours.png"]) == 0
    assert "distance to the nearest real images (real, imagenet)" in capsys.readouterr().out


def test_what_cannot_be(labelled: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for args, part in (
        (["--seeds", "1"], "seeds are [1]"),
        (["--class", "0,1"], "labels is [0, 1]"),
        (["--neighbours", "2"], "--data or --real"),
        (["--neighbours", "2", "--data", "Digits"], "(digits) are 1x8x8"),
    ):
        assert part in refused([labelled, *args], capsys, main, "interpolate")
    monkeypatch.setattr("gan_lightning.pictures.find_spec", lambda name: None)
    assert "pip install av" in refused([labelled, "--output", "a.mp4"], capsys, main, "interpolate")
    assert not list(Path().iterdir())
