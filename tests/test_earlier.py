"""Checkpoints and configs of earlier versions of this project load, or are refused with one line.

Each folder in tests/earlier/ is a run of two steps that version 565e73a made, with four images drawn by that version. The
weights of the generators were stirred afterwards, so that the images differ.
"""

import shutil
from pathlib import Path

import numpy
import pytest
from PIL import Image

import gan_lightning
from gan_lightning import checkpoint
from gan_lightning.commands.verbs import Verb
from tests.helpers import refusal, write_mnist

EARLIER = Path(__file__).parent / "earlier"
FEWER_LAYERS = ["dcgan_28", "dropout_conv_8"]  # fewer layers in the discriminator than today
AS_TODAY = "unchanged_8"
every = pytest.mark.parametrize("name", [*FEWER_LAYERS, AS_TODAY])
QUIET = [*("--max_steps", "3", "--enable_progress_bar", "false", "--accelerator", "cpu")]


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "data", "MNIST")
    monkeypatch.setattr("gan_lightning.metrics.classifier.FEWEST_IMAGES_SEEN", 1)


def settings(name: str) -> list[str]:
    return ["--config", str(EARLIER / name / "config.yaml"), *QUIET]


def of(name: str) -> str:
    return str(EARLIER / name / "last.ckpt")


@every
def test_an_earlier_checkpoint_is_sampled_evaluated_and_exported(name: str) -> None:
    images = gan_lightning.load(of(name)).sample(4)
    drawn = numpy.concatenate([image[0].numpy() for image in images], axis=1)
    with Image.open(EARLIER / name / "samples.png") as picture:
        assert numpy.abs(drawn.astype(int) - numpy.asarray(picture).astype(int)).max() <= 1
    assert Verb.sample.main([of(name), "--output", "grid.png", "--num_images", "4", "--accelerator", "cpu"]) == 0
    assert Path("grid.png").is_file()
    measured = ["--data", "MNIST" if "28" in name else "Digits", "--extractor", "classifier", "--num_images", "50"]
    assert Verb.evaluate.main([of(name), *measured, "--output", "record.json", "--accelerator", "cpu"]) == 0
    assert Verb.export.main([of(name), "--formats", "safetensors", "--output", "folder"]) == 0
    assert (gan_lightning.load("folder").sample(4) == images).all()


@pytest.mark.parametrize("name", FEWER_LAYERS)
def test_checkpoints_that_cannot_be_resumed_are_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(Verb.train.main, [*settings(name), "--ckpt_path", of(name)], capsys, "discriminator", "layers")
    assert Verb.train.main([*settings(name), "--init_from", of(name)]) == 0  # takes the layers that fit


def test_training_resumes_if_the_layers_are_the_same() -> None:
    """The class has a newer argument that the checkpoint lacks."""
    assert "hidden" not in checkpoint.load_gan(of(AS_TODAY))[checkpoint.KEY]["generator"]["arguments"]
    for number, flag in enumerate(("--ckpt_path", "--init_from")):
        assert Verb.train.main([*settings(AS_TODAY), flag, of(AS_TODAY)]) == 0
        content = checkpoint.load_gan(f"lightning_logs/version_{number}/checkpoints/last.ckpt")
        assert content["global_step"] == 3
        assert content[checkpoint.KEY]["generator"]["arguments"]["hidden"] == 0


def test_an_earlier_run_resumes_in_its_folder() -> None:
    folder = Path("lightning_logs/version_0")
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(EARLIER / AS_TODAY / "config.yaml", folder)
    shutil.copy(of(AS_TODAY), folder / "checkpoints")
    assert Verb.train.main(["--ckpt_path", "last", *QUIET]) == 0
    assert checkpoint.load_gan(folder / "checkpoints" / "last.ckpt")["global_step"] == 3


@every
def test_an_earlier_config_trains(name: str) -> None:
    assert Verb.train.main(settings(name)) == 0
    assert checkpoint.load_gan("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 3
