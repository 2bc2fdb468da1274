"""Paths that YAML reads as something else, and paths in printed commands."""

import shlex
import sys
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from gan_lightning.commands.common.arguments import arrange, dump, instantiate, parse
from gan_lightning.commands.common.measuring_flags import parse_flags
from gan_lightning.commands.common.paths import pasted
from gan_lightning.commands.common.real_images import find_data, make_data
from gan_lightning.commands.common.recipes import dump_yaml
from gan_lightning.commands.train.settings import settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.home import expand
from tests.helpers import interrupted, refusal

ODD = [
    "[a]",
    "null",
    "a: b",
    "1e3",
    "0x10",
    "true",
    "~x",
    "a b",
    "it's",
    'say "x"',
    "{a: 1}",
    "&a",
    " #b",
    "- a",
    "$HOME",
    "a\\b",
]


def folder_of_images(path: Path) -> Path:
    path.mkdir(parents=True)
    for i in range(4):
        Image.new("L", (8, 8), i).save(path / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    return Verb.train.make_parser()


@pytest.mark.parametrize("odd", ODD)
def test_a_path_reaches_every_setting_as_it_is(odd: str, parser: ArgumentParser) -> None:
    """The settings and their YAML file agree, whichever way the flag is written."""
    folder_of_images(Path(odd))
    data = ["--data", "ImageFolder", "--data.image_size", "8", "--data.channels", "1"]
    for root in (["--data.root", odd], [f"--data.root={odd}"]) if odd != "- a" else ([f"--data.root={odd}"],):
        words = [*data, *root, "--default_root_dir", odd, "--init_from", odd, f"--metrics.inception_weights={odd}"]
        config, resume_from, _ = settings(parser, ["--config", "folder_64", *words])
        config.pop("config")
        Path("own.yaml").write_text(dump(parser, config))
        again = parse(parser, arrange(["--config", "own.yaml"]), "trainer")
        for found in (config, again):
            assert found.data.init_args.root == odd
            assert (found.trainer.default_root_dir, found.init_from, found.metrics.inception_weights) == (odd, odd, odd)
        assert resume_from is None
    assert settings(parser, ["--config", "folder_64", *data, "--data.root", odd, "--ckpt_path", odd])[1] == Path(odd)
    made = instantiate(parser, config).data
    assert isinstance(made, ImageFolder)
    assert made.root == Path(odd)


@pytest.mark.parametrize("odd", ODD)
def test_a_path_reaches_the_measuring_commands_as_it_is(odd: str) -> None:
    folder_of_images(Path(odd))
    groups = arrange([odd, "--real", odd, "--reference", odd, f"--inception_weights={odd}", "--output", odd])
    config = parse_flags(Verb.evaluate.make_parser(), groups)
    assert {config[name] for name in ("source", "real", "reference", "inception_weights", "output")} == {odd}
    made = make_data(arrange(["--data", "ImageFolder", "--data.root", odd, "--data.image_size=8", "--data.channels", "1"]))
    assert isinstance(made, ImageFolder)
    assert made.root == Path(odd)


@pytest.mark.parametrize("odd", ODD)
def test_the_data_of_a_run_keeps_its_path(odd: str, small_checkpoint: bytes) -> None:
    """evaluate.py and interpolate.py find it in the config.yaml; a flag replaces it."""
    folder_of_images(Path(odd))
    last = Path("run/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    last.write_bytes(small_checkpoint)
    arguments = {"root": odd, "image_size": 8, "channels": 1}
    Path("run/config.yaml").write_text(dump_yaml({"data": {"class_path": "ImageFolder", "init_args": arguments}}))
    for more, root in (([], odd), ([f"--data.root={folder_of_images(Path('other'))}"], "other")):
        groups = arrange([str(last), *more])
        config = parse_flags(Verb.evaluate.make_parser(), groups)
        config.trust = []
        made = find_data(config, groups, str(last))
        assert isinstance(made, ImageFolder)
        assert made.root == Path(root)


@pytest.mark.parametrize("odd", ["[a]", "null", "a: b", "1e3", "it's"])
def test_commands_with_odd_names(odd: str, small_checkpoint: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path(odd).write_bytes(small_checkpoint)
    Image.new("L", (8, 8)).save(f"{odd}.png")
    assert Verb.sample.main([odd, "--num_images", "2", "--output", f"grid{odd}.png"]) == 0
    assert Verb.sample.main([odd, "--num_images", "2", "--output", f"folder{odd}"]) == 0
    assert Verb.interpolate.main([odd, "--frames", "2", "--output", f"walk{odd}.png"]) == 0
    assert Verb.export.main([odd, "--formats", "safetensors", "--no_picture", "--output", f"exported{odd}"]) == 0
    latent = ["--save_latent", f"latent{odd}.npz", "--output", f"inverted{odd}.png"]
    assert Verb.invert.main([odd, f"{odd}.png", "--mask", f"{odd}.png", "--steps", "1", "--restarts", "1", *latent]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_null_removes_a_path_unless_it_names_a_file(parser: ArgumentParser) -> None:
    words = ["--config", "mlp_mnist", "--init_from", "null"]
    assert settings(parser, words)[0].init_from is None
    Path("null").touch()
    assert settings(parser, words)[0].init_from == "null"


def test_a_tilde_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shells leave it in --flag=~/x, and YAML files may have it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder_of_images(tmp_path / "home" / "photos")
    (tmp_path / "home" / "own.yaml").write_text("data: {class_path: ImageFolder, init_args: {root: ~/photos}}\n")
    config, *_ = settings(Verb.train.make_parser(), ["--config=~/own.yaml", "--init_from=~/x.ckpt"])
    assert config.data.init_args.root == str(tmp_path / "home" / "photos")
    assert config.init_from == str(tmp_path / "home" / "x.ckpt")
    refusal(Verb.sample.main, ["~/nowhere.ckpt"], capsys, str(tmp_path / "home" / "nowhere.ckpt"))
    assert expand("~nobody-of-this-name/x") == "~nobody-of-this-name/x"
    Path("~").mkdir()
    assert expand("~") == "~"


def test_yaml_that_jsonargparse_reads_back() -> None:
    text = dump_yaml({"root": "1e3", "lr": 1e-3, "é": "é"})
    assert text == "root: '1e3'\nlr: 0.001\né: é\n"


def test_printed_commands_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "my scripts" / "train.py")])
    root = "runs of 'today'"
    small = ["--config", "digits", "--max_steps", "4", "--metrics.extractor", "none", "--enable_progress_bar", "false"]
    interrupted([*small, "--default_root_dir", root], 2, monkeypatch)
    printed = capsys.readouterr().out
    (resume,) = (line.split(maxsplit=1)[1] for line in printed.splitlines() if line.startswith("  resume"))
    (curves,) = (line.partition("curves")[2] for line in printed.splitlines() if line.startswith("  see the curves"))
    assert shlex.split(resume)[1:] == [str(Path("my scripts", "train.py")), "--ckpt_path", "last", "--default_root_dir", root]
    assert shlex.split(curves)[1:] == ["--logdir", str(Path(root, "lightning_logs"))]
    assert pasted(tmp_path / "a b") == "'a b'"
