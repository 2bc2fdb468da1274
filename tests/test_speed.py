"""Faster steps have the same results, and the cost of a step depends only on the batch."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import DCGANDiscriminator, DCGANGenerator
from gan_lightning.regularizers import R1
from tests.faults.runs import run
from tests.helpers import TensorData, error_line, fit

ROOT = Path(__file__).parent.parent


def convolutional_gan(**arguments: Any) -> GAN:
    """Make a small conditional DCGAN for 16x16 pixels with a gradient penalty, always with the same weights."""
    torch.manual_seed(0)
    generator = DCGANGenerator((3, 16, 16), 10, latent_dim=4, width=8, conditioning="concatenation")
    discriminator = DCGANDiscriminator((3, 16, 16), 10, width=8, batch_norm=False, conditioning="projection")
    with_penalty: dict[str, Any] = {"penalty": R1(), "ema_halflife": 100.0}
    return GAN(generator, discriminator, NonSaturatingLoss(), **(with_penalty | arguments))


def noise(batch_size: int = 16) -> TensorData:
    """Images of that shape, of ten classes."""
    images = torch.randint(0, 256, (256, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TensorData(images, torch.arange(256) % 10, batch_size=batch_size)


class Losses(Callback):
    """Keeps the outputs of every step, and saves a checkpoint after the fourth."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.rows.append({name: float(value) for name, value in outputs.items()})
        if self.path is not None and trainer.global_step == 4:
            trainer.save_checkpoint(self.path)


def losses(model: GAN, steps: int = 4, path: Path | None = None, **arguments: Any) -> list[dict[str, float]]:
    """Train, and return the outputs of each step; save a checkpoint to ``path``, or resume from one."""
    torch.manual_seed(0)
    fit(model, noise(), callbacks=[kept := Losses(path)], max_steps=steps, **arguments)
    return kept.rows


def assert_alike(rows: list[dict[str, float]], others: list[dict[str, float]], within: float) -> None:
    assert len(rows) == len(others) > 0
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=within)


def test_channels_last_changes_only_the_memory_format() -> None:
    model = convolutional_gan(channels_last=True)
    ours = losses(model)
    assert_alike(ours, losses(convolutional_gan()), within=1e-4)  # usually within 1e-6
    assert model.ema is not None
    for network in (model.generator, model.discriminator, model.ema):
        weights = [weight for weight in network.parameters() if weight.dim() == 4 and min(weight.shape[1:]) > 1]
        assert weights
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    (first,) = (module for module in model.generator.modules() if isinstance(module, nn.Unflatten))
    assert first(torch.zeros(2, 16 * 4 * 4)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("before", [False, True])
def test_a_run_may_resume_with_the_other_memory_format(before: bool, tmp_path: Path) -> None:
    """Fused Adam assumes that moments have the weights' memory format; a checkpoint has the earlier format."""
    straight = losses(convolutional_gan(channels_last=before), 8, tmp_path / "4.ckpt")
    resumed = losses(convolutional_gan(channels_last=not before), 8, ckpt_path=tmp_path / "4.ckpt")
    assert_alike(resumed, straight[4:], within=1e-4)  # usually within 1e-6; with unconverted moments, 1e-2


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_passes_have_the_same_numbers_and_keys() -> None:
    """The gradient penalty runs eagerly, because compiled code cannot differentiate twice."""
    compiled, eager = convolutional_gan(compile=True), convolutional_gan()
    torch._dynamo.reset()  # after eight versions of one method it would run eagerly
    calls = torch._dynamo.utils.counters["stats"]
    before = calls["unique_graphs"]
    assert_alike(losses(compiled), losses(eager), within=1e-4)  # usually within 1e-6
    assert calls["unique_graphs"] >= before + 4  # the generator's pass and the discriminator's, each for both updates
    assert list(compiled.state_dict()) == list(eager.state_dict())


def test_no_compiler_is_one_line(tmp_path: Path) -> None:
    args = ["--config", "digits", "--max_steps", "2", "--metrics.extractor", "none", "--model.compile", "true"]
    (empty := tmp_path / "bin").mkdir()
    nowhere = {"PATH": str(empty), "CXX": "", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *args]
    done = subprocess.run(command, env=os.environ | nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    line = error_line(done.stderr, "train: error: --model.compile true")
    assert "InvalidCxxCompiler" in line or "PermissionError" in line  # of torch 2.11


def operations(batch_size: int, steps: int) -> int:
    """Count multiplications and additions of the matrix products and convolutions of so many steps."""
    with FlopCounterMode(display=False) as counter:
        fit(convolutional_gan(penalty=None), noise(batch_size), max_steps=steps)  # it cannot count within autograd.grad
    return int(counter.get_total_flops())


def test_the_cost_of_a_step_is_proportional_to_the_batch() -> None:
    assert operations(16, 2) > 10**6
    assert operations(32, 2) == 2 * operations(16, 2)
    assert operations(16, 6) == 3 * operations(16, 2)


class Memory(Callback):
    """Prints the memory of the process every 500 steps."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step % 500 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(f"MEMORY {pages * 4 // 1024}", flush=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_flat_over_5000_steps() -> None:
    """The command with its logs, grids and checkpoints: a kibibyte kept at each step would be 4 MiB from step 1,000 on."""
    args = ["--config", "digits", "--data.batch_size", "8", "--model.generator.hidden", "[16]"]
    args += ["--model.discriminator.hidden", "[16]"]
    args += ["--max_steps", "5000", "--metrics.extractor", "none", "--logger", "[tensorboard, csv]"]
    code, out, error = run(*args, f"--trainer.callbacks+={__name__}.Memory")
    assert code == 0, error
    mebibytes = [int(found) for found in re.findall(r"MEMORY (\d+)", out)]
    assert len(mebibytes) == 10
    assert max(mebibytes[2:]) - mebibytes[1] < 4, mebibytes
