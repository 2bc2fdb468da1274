"""Classes by name and by number, in every command that takes --class."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from gan_lightning import checkpoint, files, inference
from gan_lightning.commands.common.classes import class_numbers, class_text
from gan_lightning.commands.playground.player import Settings, command
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from tests.helpers import fit, refusal, refuses

NAMES = ["0", "1", "10", "2"]
"""Folders in the order of the labels."""


def with_names(path: str, target: Path, names: Any) -> Path:
    """The same checkpoint, with other names of its three classes."""
    content = files.load(path)
    content[checkpoint.KEY]["class_names"] = names
    files.save(content, target)
    return target


def test_a_run_keeps_the_names_of_its_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--class 10 and --class 2 draw the classes of these names, in sample.py and from an exported folder."""
    for i, name in enumerate(NAMES * 4):
        path = tmp_path / "photos" / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numpy.full((8, 8), i, numpy.uint8)).save(path)
    data = ImageFolder(tmp_path / "photos", 8, 1, batch_size=4, num_workers=0)
    networks: dict[str, Any] = {"num_classes": 4, "conditioning": "concatenation", "hidden": [8]}
    gan = GAN(MLPGenerator((1, 8, 8), **networks), MLPDiscriminator((1, 8, 8), **networks), NonSaturatingLoss())
    fit(gan, data, max_steps=1).save_checkpoint("last.ckpt")
    assert files.load("last.ckpt")[checkpoint.KEY]["class_names"] == NAMES
    inference.load("last.ckpt").save_pretrained("exported")
    for source in ("last.ckpt", "exported"):
        sampler = inference.load(source)
        assert sampler.class_names == tuple(NAMES)
        for word, number in (("10", 2), ("2", 3), ("0", 0), ("3", 3)):  # 3 is a number alone
            args = [source, "--num_images", "2", "--class", word, "--output", f"{source}_{word}.npz"]
            assert Verb.sample.main(args) == 0
            said = capsys.readouterr().out
            assert NAMES[number] in said
            drawn = torch.from_numpy(numpy.load(f"{source}_{word}.npz")["images"])
            assert torch.equal(drawn, sampler.sample(2, number))
            if word == "2":
                assert "wins over the number 2, which is 10 (number 2)" in said
    assert NAMES[2] in Path("exported", "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("cat", [0]), ("0", [0]), ("cat,2", [0, 2]), ("big dog,cat", [1, 0]), ("a,b", [2]), (" 1 , 0", [1, 0])],
)
def test_names_and_numbers(labelled: str, tmp_path: Path, text: str, numbers: list[int]) -> None:
    sampler = inference.load(with_names(labelled, tmp_path / "named.ckpt", ["cat", "big dog", "a,b"]))
    assert class_numbers(sampler, text) == numbers


@pytest.mark.parametrize("text", ["3", "-1", "bird", "", "1.0", "cat,", "²"])
def test_other_words_are_refused(labelled: str, tmp_path: Path, text: str) -> None:
    sampler = inference.load(with_names(labelled, tmp_path / "named.ckpt", ["cat", "dog", "cow"]))
    with refuses("--class", "0 to 2", "cat, dog, cow"):
        class_numbers(sampler, text)
    with refuses("did you mean cow?"):
        class_numbers(sampler, "caw")


def test_a_checkpoint_without_names_takes_numbers(labelled: str, tmp_path: Path) -> None:
    content = files.load(labelled)
    del content[checkpoint.KEY]["class_names"]
    files.save(content, tmp_path / "old.ckpt")
    sampler = inference.load(tmp_path / "old.ckpt")
    assert sampler.class_names == ()
    assert class_numbers(sampler, "2,1") == [2, 1]
    with refuses("--class cat", "0 to 2"):
        class_numbers(sampler, "cat")


@pytest.mark.parametrize("names", [{"a": 1}, [1, 2, 3], "abc", [["a"], "b", "c"]])
def test_names_of_another_kind_are_refused(labelled: str, tmp_path: Path, names: Any) -> None:
    with refuses("class_names"):
        inference.load(with_names(labelled, tmp_path / "other.ckpt", names))
    inference.load(labelled).save_pretrained(tmp_path / "exported")
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    (tmp_path / "exported" / "config.json").write_text(json.dumps(config | {"class_names": names}))
    with refuses("class_names"):
        inference.load(tmp_path / "exported")


def test_too_few_names_are_not_used(labelled: str, tmp_path: Path) -> None:
    assert inference.load(with_names(labelled, tmp_path / "few.ckpt", ["cat"])).class_names == ()


def test_hostile_names_are_printed_plainly(labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["\x1b[31mred", "two\nlines", "caf\udce9"]
    sampler = inference.load(with_names(labelled, tmp_path / "named.ckpt", names))
    assert class_numbers(sampler, "0,1,2") == [0, 1, 2]
    assert capsys.readouterr().out.isascii()
    assert "\x1b" not in class_text(0, sampler)
    sampler.save_pretrained(tmp_path / "exported")
    assert inference.load(tmp_path / "exported").class_names == tuple(names)


@pytest.mark.parametrize("verb", [Verb.sample, Verb.interpolate, Verb.invert])
def test_every_command_takes_a_name(
    verb: Verb, labelled: str, plain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = str(with_names(labelled, tmp_path / "named.ckpt", ["cat", "dog", "cow"]))
    Image.fromarray(numpy.zeros((8, 8, 3), numpy.uint8)).save("target.png")
    more = ["target.png", "--steps", "1", "--restarts", "1"] if verb is Verb.invert else []
    more += ["--frames", "1"] if verb is Verb.interpolate else []
    assert verb.main([named, *more, "--class", "dog", "--output", "out.png", "--accelerator", "cpu"]) == 0
    assert "dog (number 1)" in capsys.readouterr().out
    refusal(verb.main, [named, *more, "--class", "3", "--output", "no.png"], capsys, "--class 3", "0 to 2")
    refusal(verb.main, [plain, *more, "--class", "0", "--output", "no.png"], capsys, "--class 0", "unconditional")


def test_the_playground_names_classes_in_its_command(labelled: str) -> None:
    config = Verb.sample.make_parser().parse_args([labelled])
    config.raw, config.trust = False, []
    words = shlex.split(command(Settings(label=2), config, ["10", "-rf", "2, or 3"]))
    assert Verb.sample.make_parser().parse_args(words[2:])["class"] == "2, or 3"
    assert (
        Verb.sample.make_parser().parse_args(shlex.split(command(Settings(label=1), config, ["1", "-rf"]))[2:])["class"]
        == "-rf"
    )


def test_a_resumed_run_has_the_same_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A label that means another class would train one class on images of another."""
    for name in ("cat", "dog"):
        for i in range(12):
            path = tmp_path / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numpy.full((8, 8), i, numpy.uint8)).save(path)
    config = {
        "data": {"class_path": "ImageFolder", "init_args": {"root": "photos", "image_size": 8, "channels": 1, "batch_size": 4}},
        "model": {
            name: {"class_path": f"MLP{name.title()}", "init_args": {"hidden": [4], "conditioning": "concatenation"}}
            for name in ("generator", "discriminator")
        },
        "metrics": {"extractor": "none"},
        "trainer": {"accelerator": "cpu", "max_steps": 1, "enable_progress_bar": False, "logger": False},
    }
    Path("own.yaml").write_text(json.dumps(config))
    assert Verb.train.main(["--config", "own.yaml", "--data.num_workers", "0"]) == 0
    (tmp_path / "photos" / "cat").rename(tmp_path / "photos" / "eel")
    line = refusal(Verb.train.main, ["--ckpt_path", "last", "--max_steps", "2"], capsys, "cat", "--init_from")
    assert "dog" in line
    (last,) = Path().glob("lightning_logs/*/checkpoints/last.ckpt")
    assert Verb.train.main(["--config", "own.yaml", "--init_from", str(last)]) == 0
    with pytest.raises(InputError):
        inference.load(last).labels(1, 5)
