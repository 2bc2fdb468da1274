"""Each drawing command accepts the name of a bundled generator, and prints which weights it uses."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pytest
import torch
from torchvision.transforms.functional import to_pil_image

import gan_lightning
from gan_lightning import Sampler
from gan_lightning.commands.verbs import Verb
from gan_lightning.lookup import bundled
from gan_lightning.networks import MLPGenerator
from tests.helpers import same_state

FROM = f", from {bundled()['digits']}"


@pytest.mark.parametrize(
    ("main", "args"),
    [
        (Verb.sample.main, ["--num_images", "4"]),
        (Verb.interpolate.main, ["--seeds", "0,1", "--frames", "2"]),
        (Verb.invert.main, ["digit.png", "--steps", "1", "--restarts", "1"]),
        (Verb.export.main, ["--formats", "safetensors"]),
    ],
    ids=["sample", "interpolate", "invert", "export"],
)
def test_each_command_accepts_the_name(
    main: Callable[[Sequence[str]], int], args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    to_pil_image(torch.zeros(1, 8, 8)).save("digit.png")
    assert main(["digits", *args]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("  digits: MLPGenerator, step ")
    assert first.endswith(FROM)


def test_the_command_and_python_draw_the_same() -> None:
    assert Verb.sample.main(["digits", "--output", "a.npz", "--num_images", "20", "--seed", "3", "--accelerator", "cpu"]) == 0
    assert numpy.array_equal(numpy.load("a.npz")["images"], gan_lightning.load("digits").sample(20, seed=3))


def test_its_export_is_identical() -> None:
    assert Verb.export.main(["digits", "--formats", "safetensors"]) == 0
    one, other = gan_lightning.load("digits"), gan_lightning.load("exported")
    assert same_state(one.generator, other.generator)
    assert {**one.origin, "checkpoint": "exported"} == other.origin


def test_a_folder_with_the_same_name_wins(capsys: pytest.CaptureFixture[str]) -> None:
    mine = Sampler(MLPGenerator((1, 8, 8), latent_dim=4, hidden=[8]))
    mine.save_pretrained("digits")
    for name in ("digits", "./digits"):
        assert Verb.sample.main([name, "--output", f"{len(name)}.npz", "--num_images", "5", "--accelerator", "cpu"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1
        assert numpy.array_equal(numpy.load(f"{len(name)}.npz")["images"], mine.sample(5))


def test_the_page_opens_with_it(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "playground.py"
    running = subprocess.Popen(
        [sys.executable, str(script), "digits", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert running.stdout is not None
        first, second = running.stdout.readline(), running.stdout.readline()
        assert first.rstrip().endswith(FROM)
        assert "http://" in second
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 130
    finally:
        running.kill()
        running.wait()
