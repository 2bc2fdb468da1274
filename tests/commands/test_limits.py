"""Descriptions and settings of unknown origin that would never end, and signals while something slow goes on."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

import gan_lightning
from gan_lightning import checkpoint, files
from gan_lightning.callbacks import GenerativeMetrics
from gan_lightning.callbacks.stop_signals import StopSignals
from gan_lightning.commands.common import exit_codes
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.commands.common.recipes import load_yaml
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError
from gan_lightning.metrics.measurement import Measurement
from tests.helpers import fit, refusal, refuses, small_gan, write_mnist

SECONDS = 20  # far less than without a limit, far more than needed on a busy machine


@pytest.fixture
def endless(small_checkpoint: bytes) -> Path:
    """A checkpoint that describes a generator with a billion blocks."""
    path = Path("run/checkpoints/last.ckpt")
    path.parent.mkdir(parents=True)
    path.write_bytes(small_checkpoint)
    content = checkpoint.load_gan(path)
    content[checkpoint.KEY]["generator"] = {
        "class_path": "gan_lightning.networks.R3GANGenerator",
        "arguments": {"image_shape": [1, 16, 16], "blocks": 1_000_000_000},
    }
    files.save(content, path)
    return path


def test_a_description_with_a_billion_blocks_is_refused(endless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.process_time()
    refusal(Verb.sample.main, [str(endless)], capsys, "layers")
    assert time.process_time() - begun < SECONDS


def test_settings_with_a_billion_blocks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.process_time()
    blocks = [
        "--model.generator",
        "R3GANGenerator",
        "--model.generator.blocks",
        "1000000000",
        "--model.generator.widths",
        "[16,16,16]",
    ]
    write_mnist(Path("data"))
    refusal(Verb.train.main, ["--config", "small_mlp_mnist", *blocks], capsys, "layers")
    assert time.process_time() - begun < SECONDS


def test_a_description_that_needs_more_memory_than_its_weights_is_refused(small_checkpoint: bytes) -> None:
    """The shapes are compared before memory is allocated."""
    Path("last.ckpt").write_bytes(small_checkpoint)
    content = checkpoint.load_gan("last.ckpt")
    content[checkpoint.KEY]["generator"]["arguments"]["latent_dim"] = 2**33
    files.save(content, "last.ckpt")
    with refuses("last.ckpt", "8589934592"):
        gan_lightning.load("last.ckpt")


@pytest.mark.parametrize("text", ["[" * 10_000 + "]" * 10_000, "{a: " * 10_000 + "1" + "}" * 10_000, "- " * 5000 + "a"])
def test_deep_settings_next_to_a_checkpoint_are_refused(
    text: str, small_checkpoint: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path("run/config.yaml")
    last = own.parent / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(small_checkpoint)
    for content in (f"data: {text}\n", f"model:\n  loss: '{text}'\n") if not text.startswith("-") else (f"data:\n  {text}\n",):
        own.write_text(content)
        begun = time.process_time()
        refusal(Verb.train.main, ["--ckpt_path", str(last)], capsys, str(own))
        if content.startswith("data"):
            refusal(Verb.evaluate.main, [str(last)], capsys, str(own))
        assert time.process_time() - begun < SECONDS


def test_the_limits_of_yaml() -> None:
    assert load_yaml("[" * 30 + "]" * 30)
    for text in ("[" * 50 + "]" * 50, "a" * 2**21):
        with pytest.raises(Exception, match="more than"):
            load_yaml(text)


def test_a_signal_stops_a_measurement_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends after the step, with the values of the metrics as they were."""
    seen: list[int] = []
    draw = Measurement.collect

    def collect(self: Measurement, sample: Any) -> Any:
        def interrupted(indices: Tensor) -> Tensor:
            seen.append(len(indices))
            signal.raise_signal(signal.SIGTERM)
            images: Tensor = sample(indices)
            return images

        return draw(self, interrupted)

    monkeypatch.setattr(Measurement, "collect", collect)
    metrics = GenerativeMetrics("classifier", every_n_steps=3, num_images=1000, batch_size=10)
    signals = StopSignals()
    trainer: Trainer = fit(small_gan(), callbacks=[signals, metrics], max_steps=10)
    assert (trainer.global_step, seen) == (3, [10])
    assert signals.received == signal.SIGTERM
    assert metrics.best_step == -1


def test_ctrl_c_while_a_library_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    """A library may turn KeyboardInterrupt into an error of its own."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)

    def imports() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy is broken") from None

    assert run_command("train", imports) == 130
    assert capsys.readouterr().err == "train: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def fails() -> None:
        raise ImportError

    with pytest.raises(ImportError):
        run_command("train", fails)
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.parametrize("first", [True, False])
def test_an_error_in_a_joint_run_is_printed_by_the_first_that_finds_it(
    first: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    monkeypatch.setattr("gan_lightning.training.distributed.world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setenv("RANK", "1" if first else "0")

    def fails() -> None:
        raise InputError("--x is wrong: use another")

    for rank in ("1", "0") if first else ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert exit_codes.run_command("train", fails) == 2
    assert capsys.readouterr().err == "train: error: --x is wrong: use another\n"
