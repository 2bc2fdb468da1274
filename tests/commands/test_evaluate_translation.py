"""The evaluate command on checkpoints of translations, as users type it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gan_lightning.commands.verbs import Verb
from gan_lightning.data import Derived, Digits
from gan_lightning.data.degradations import Downscale, TurnedNegative
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.metrics import classifier
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import PatchDiscriminator, SRResNet
from gan_lightning.translation import PairedTranslation
from tests.commands.checkpoints import write_checkpoint
from tests.helpers import fit, refusal
from tests.translators import small_cycle

main = Verb.evaluate.main
SOURCE = {"class_path": "gan_lightning.data.Digits"}
TINY = ["--extractor", "tests.callbacks.test_translation_metrics.Pooled"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is hardly trained."""
    monkeypatch.setattr(classifier, "FEWEST_IMAGES_SEEN", 1)


def write_run(model: AdversarialModule, data: Derived, degradation: dict[str, Any], paired: bool = True) -> str:
    """Write a run of one step, with the settings of its data."""
    path = Path("run/checkpoints/last.ckpt")
    fit(model, data, max_steps=1).save_checkpoint(path, weights_only=False)
    settings = {"source": SOURCE, "degradation": degradation, "paired": paired, "batch_size": 16}
    described = {"data": {"class_path": "gan_lightning.data.Derived", "init_args": settings}}
    Path("run/config.yaml").write_text(yaml.safe_dump(described))
    return str(path)


@pytest.fixture
def enlarging() -> str:
    model = PairedTranslation(
        SRResNet((1, 8, 8), (1, 4, 4), width=4, blocks=1),
        PatchDiscriminator((1, 8, 8), source_shape=(1, 4, 4), width=4, layers=1),
        NonSaturatingLoss(),
        ema_halflife=10.0,
    )
    degradation = {"class_path": "gan_lightning.data.degradations.Downscale", "init_args": {"factor": 2}}
    return write_run(model, Derived(Digits, Downscale(2), batch_size=16), degradation)


def cycle() -> str:
    degradation = {"class_path": "gan_lightning.data.degradations.TurnedNegative"}
    data = Derived(Digits, TurnedNegative(), paired=False, batch_size=16)
    return write_run(small_cycle(), data, degradation, paired=False)


def test_a_translation_next_to_its_baseline(enlarging: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([enlarging]) == 0
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(Path(enlarging).with_name("last_metrics.json").read_text())
    names = {"digits_fd_360", "psnr", "ssim", "l1", "imagenet_perceptual"}
    assert set(record["metrics"]) == set(record["baselines"]["bicubic"]) == names
    protocol = record["protocol"]
    expected = {
        **{"checkpoint": enlarging, "global_step": 1, "weights": "ema", "method": "PairedTranslation"},
        **{"real": "digits", "split": "test", "num_images": 360, "num_real": 360, "extractor": "classifier of digits"},
        **{"image_shape": [1, 8, 8], "source_shape": [1, 4, 4]},
    }
    assert {name: protocol[name] for name in expected} == expected
    assert protocol["constants"]["psnr"]["data_range"] == 255
    assert "torchmetrics" in protocol["versions"]
    (header,) = (line for line in printed if "psnr" in line)
    assert header.split() == list(record["metrics"])
    rows = {line.split()[0]: line.split()[1:] for line in printed if line.startswith(("  model", "  bicubic"))}
    for row, values in {"model": record["metrics"], "bicubic": record["baselines"]["bicubic"]}.items():
        assert [float(cell) for cell in rows[row]] == pytest.approx(list(values.values()), rel=1e-4)
    args = [
        enlarging,
        *TINY,
        "--metrics",
        "fid,l1",
        "--num_images",
        "30",
        "--raw",
        "--split",
        "train",
        "--output",
        "other.json",
    ]
    assert main(args) == 0
    other = json.loads(Path("other.json").read_text())
    assert set(other["metrics"]) == {"pooled_fd_30", "l1"}
    assert (other["protocol"]["weights"], other["protocol"]["split"]) == ("raw", "train")


@pytest.mark.parametrize("method", ["PairedTranslation", "CycleGAN"])
def test_an_exported_translation_measures_as_its_checkpoint(method: str, request: pytest.FixtureRequest) -> None:
    """Its folder names the method and the data, too."""
    path = cycle() if method == "CycleGAN" else request.getfixturevalue("enlarging")
    flags = [*TINY, "--metrics", "fid,psnr", "--num_images", "40"]
    assert Verb.export.main([path, "--output", "exported"]) == 0
    assert main([path, *flags, "--output", "checkpoint.json"]) == 0
    assert main(["exported", *flags, "--output", "folder.json"]) == 0
    first, second = (json.loads(Path(f"{name}.json").read_text()) for name in ("checkpoint", "folder"))
    assert second["metrics"] == pytest.approx(first["metrics"])
    assert second["protocol"]["method"] == method


def test_both_directions_of_a_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    path = cycle()
    assert main([path, *TINY, "--metrics", "fid,psnr", "--num_images", "40"]) == 0
    record = json.loads(Path(path).with_name("last_metrics.json").read_text())
    forward = {"pooled_fd_40", "psnr", "cycle_l1"}
    names = forward | {f"inverse_{name}" for name in forward}
    assert set(record["metrics"]) == set(record["baselines"]["identity"]) == names
    assert record["baselines"]["identity"]["cycle_l1"] == 0.0
    printed = capsys.readouterr().out
    assert printed.count("\n  model") == printed.count("\n  identity") == 2  # there, and back


def test_bad_flags_get_one_line(enlarging: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag, value in {"seed": "1", "real": "photos", "reference": "real.npz", "image_size": "8"}.items():
        Path("photos").mkdir(exist_ok=True)
        refusal(main, [enlarging, f"--{flag}", value], capsys, f"--{flag}")
    refusal(main, [enlarging, "--metrics", "psnr,foo"], capsys, "foo")
    refusal(main, [enlarging, "--data", "Digits"], capsys, "--data")
    derived = ["--data", "Derived", "--data.source", "Digits", "--data.degradation"]
    refusal(main, [enlarging, *derived, "TurnedNegative"], capsys, "1x4x4", "1x8x8")
    Path("run/config.yaml").unlink()
    refusal(main, [enlarging], capsys, "--data")
    gan = write_checkpoint(Path("gan.ckpt"))
    refusal(main, [str(gan), "--metrics", "psnr"], capsys, "--metrics", "psnr")
    content = torch.load(enlarging, weights_only=True)
    del content["state_dict"][next(name for name in content["state_dict"] if name.startswith("generator."))]
    torch.save(content, "damaged.ckpt")
    refusal(main, ["damaged.ckpt", *derived, "Downscale", "--data.degradation.factor", "2", "--raw"], capsys, "damaged.ckpt")


@pytest.mark.slow
def test_two_processes_measure_what_one_does() -> None:
    """101 sources do not divide."""
    script = Path(__file__).parents[2] / "scripts" / "evaluate.py"
    args = [cycle(), "--extractor", "classifier", "--num_images", "101", "--accelerator", "cpu"]
    assert main([*args, "--output", "one.json"]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    done = subprocess.run([*torchrun, script, *args, "--output", "two.json"], capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads(Path(path).read_text()) for path in ("one.json", "two.json"))
    assert two["protocol"]["processes"] == 2
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-4)
    assert two["baselines"]["identity"] == pytest.approx(one["baselines"]["identity"], rel=1e-4)
