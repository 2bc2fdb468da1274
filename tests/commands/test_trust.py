"""Restrictions on a config.yaml found next to a checkpoint: it may come from another person."""

import sys
from pathlib import Path

import pytest
import torch
import yaml

from gan_lightning import checkpoint
from gan_lightning.commands.common.recipes import recipes
from gan_lightning.commands.common.trust import MAX_VALUES
from gan_lightning.commands.train.settings import method_of, settings
from gan_lightning.commands.verbs import Verb
from tests.commands.test_train import SMALL
from tests.helpers import refusal

make_parser = Verb.train.make_parser

CHECKPOINT = "run/checkpoints/last.ckpt"
NETWORKS = "generator: MLPGenerator, discriminator: MLPDiscriminator"
OWN = """
from pathlib import Path
from gan_lightning.data import Digits
Path(__file__).with_name("ran").touch()
class Own(Digits):
    pass
def function(parameters): ...
"""


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a module to the current folder that writes a file when it is imported."""
    Path("side_effect.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path.cwd())])
    monkeypatch.delitem(sys.modules, "side_effect", raising=False)


def write_config(text: str) -> Path:
    path = Path("run/config.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("flag", ["--ckpt_path", "--init_from"])
@pytest.mark.parametrize(
    "text",
    [
        "data: side_effect.Own",
        "data: {class_path: side_effect.Own}",
        "data.class_path: side_effect.Own",
        "data: '{class_path: side_effect.Own}'",
        'data: \'{"class_path": "side\\u005feffect.Own"}\'',
        f"data: Digits\nmodel: {{{NETWORKS}, generator_optimizer: side_effect.function}}",
        f"data: Digits\nmodel: {{{NETWORKS}, penalty: [R1, {{class_path: side_effect.Own}}]}}",
        f"data: Digits\nmodel: {{{NETWORKS}}}\nmetrics: {{extractor: side_effect.Own}}",
        f"data: Digits\nmodel: {{{NETWORKS}}}\nschedules: {{beta2: side_effect.Own}}",
        f"data: Digits\nmodel: {{{NETWORKS}}}\ntrainer: {{profiler: side_effect.Own}}",
        "trainer: {callbacks: {class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {setup: side_effect.f}}}",
    ],
)
def test_a_config_next_to_a_checkpoint_imports_nothing(text: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(text)
    refusal(Verb.train.main, [flag, CHECKPOINT], capsys, "run/config.yaml", "side_effect.", "--trust side_effect")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "name", ["os.system", "posix.system", "subprocess.Popen", "builtins.exec", "torch.hub.load", "yaml.load"]
)
def test_functions_of_other_modules_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(f"data: Digits\nmodel: {{{NETWORKS}, generator_optimizer: {name}}}")
    line = refusal(Verb.train.main, ["--ckpt_path", CHECKPOINT], capsys, "run/config.yaml", name)
    assert ("--trust" in line) == (name in ("torch.hub.load", "yaml.load"))


def test_modules_inside_our_modules_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_config(f"data: Digits\nmodel: {{{NETWORKS}, generator_optimizer: gan_lightning.checkpoint.os.system}}")
    refusal(Verb.train.main, ["--ckpt_path", CHECKPOINT], capsys, "--model.generator_optimizer", "system")


@pytest.mark.parametrize(
    "text", ["model: further.yaml", "config: further.yaml", "config: [further.yaml]", "model.generator: a"]
)
def test_references_to_further_files_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(f"data: Digits\n{text}")
    for folder in (Path("run"), Path()):
        (folder / "further.yaml").write_text("data: side_effect.Own\ngenerator: side_effect.Own")
    refusal(Verb.train.main, ["--ckpt_path", CHECKPOINT], capsys, "run/config.yaml", "--config")
    assert not Path("ran").exists()


@pytest.mark.parametrize("text", ["data: &a [*a]", f"data: [{'1,' * MAX_VALUES}]", f"data: {'[' * 5000}"])
def test_an_endless_config_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(text)
    refusal(Verb.train.main, ["--ckpt_path", CHECKPOINT], capsys, "run/config.yaml")


def test_trusted_modules_and_given_files_are_imported() -> None:
    path = write_config(f"data: side_effect.Own\nmodel: {{{NETWORKS}, loss: NonSaturatingLoss}}")
    for args in (["--config", str(path)], ["--ckpt_path", CHECKPOINT, "--trust", "other, side_effect"]):
        config = settings(make_parser(), args)[0]
        assert config.data.class_path == "side_effect.Own"
        assert Path("ran").exists()


@pytest.mark.parametrize("words", ["my_module.sub", "my-module", "[my_module]"])
def test_trust_accepts_only_names_of_modules(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_config("data: Digits")
    refusal(Verb.train.main, ["--ckpt_path", CHECKPOINT, "--trust", words], capsys, f"--trust {words}")


@pytest.mark.parametrize("recipe", recipes())
def test_the_config_of_every_recipe_is_accepted(recipe: str) -> None:
    """This includes paths that look like modules: a folder photos.v2 next to a folder photos, weights named torch.pth."""
    Path("photos").mkdir()
    method = method_of(["--config", recipe])
    parser = make_parser(method=method)
    plain = ["--default_root_dir", "photos.v3"]
    plain += ["--metrics.inception_weights", "torch.pth"] if method == checkpoint.GAN else []
    plain += ["--init_from", "tests.ckpt", "--accelerator", "abacus.v2"]
    written = settings(parser, ["--config", recipe, "--data.root", "photos.v2", *plain])[0]
    written.pop("config")
    write_config(parser.dump(written, skip_unset=False))
    taken = settings(make_parser(method=method), ["--ckpt_path", CHECKPOINT, "--init_from", ""])[0]
    differing = {"config", "ckpt_path", "init_from", "trust"}
    assert {**taken, **dict.fromkeys(differing)} == {**written, **dict.fromkeys(differing)}


def test_the_config_of_a_run_is_accepted_and_does_not_store_trust(capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--data", "side_effect.Own", "--trust", "side_effect", "--max_steps", "1"]
    assert Verb.train.main([*SMALL, *own]) == 0
    assert "trust" not in yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())
    resumed = ["--ckpt_path", "last", "--max_steps", "2"]
    refusal(Verb.train.main, resumed, capsys, "lightning_logs/version_0/config.yaml", "side_effect.Own", "--trust side_effect")
    assert Verb.train.main([*resumed, "--trust", "side_effect"]) == 0
    assert checkpoint.load_gan("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 2


def test_evaluate_also_needs_trust(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path(CHECKPOINT).parent.mkdir(parents=True)
    torch.save({}, CHECKPOINT)
    write_config("data: {class_path: side_effect.Own}\ntrainer: {callbacks: elsewhere.Own}")
    refusal(Verb.evaluate.main, [CHECKPOINT], capsys, "run/config.yaml", "side_effect.Own", "--trust side_effect")
    assert not Path("ran").exists()
    refusal(Verb.evaluate.main, [CHECKPOINT, "--trust", "side_effect"], capsys, "last.ckpt")
    assert Path("ran").exists()
    for text in ("data: [", "[]", "5", "model: {}", "data: \x00", "[" * 5000):
        write_config(text)
        refusal(Verb.evaluate.main, [CHECKPOINT], capsys, "run/config.yaml", "--data")
