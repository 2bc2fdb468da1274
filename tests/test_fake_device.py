"""The cases of tests/on_fake_device, in a process of their own.

torch sets up such a device once, before the first backward pass, and for the whole process.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from torch.utils import backend_registration

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="this torch has no such devices"
)
@pytest.mark.timeout(900)
def test_cases_on_the_fake_device() -> None:
    """Fails with the tracebacks and names of the cases that fail."""
    done = run_cases(ROOT, "device.py", "steps.py", "runs.py", "measuring.py")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]


def run_cases(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest in tests/on_fake_device, with the package in ``root``."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "--tb=short", "--disable-warnings"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    folder = root / "tests" / "on_fake_device"
    return subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, encoding="utf-8")


class Fault(NamedTuple):
    """A fault of the kind that only a GPU would show: one place of the package, and a case that fails with it."""

    file: str
    correct: str
    faulty: str
    case: str  # FILE::WORDS, of pytest -k


LATENTS = "torch.randn(count, self.generator.latent_dim, device=self.device)"
FAULTS = {
    "latents stay on the CPU": Fault(
        "gan.py", LATENTS, "torch.randn(count, self.generator.latent_dim)", "steps::recipes and small_mlp"
    ),
    "latents are copied": Fault(
        "gan.py", LATENTS, "torch.randn(count, self.generator.latent_dim).to(self.device)", "steps::recipes and small_mlp"
    ),
    "a loss is read": Fault(
        "gan.py",
        '"discriminator_loss": loss.detach()',
        '"discriminator_loss": torch.tensor(loss.item())',
        "steps::recipes and small_mlp",
    ),
    "a branch on a loss": Fault(
        "gan.py", "        if self.penalties:\n", "        if self.penalties and loss.isfinite():\n", "steps::penalties and R1"
    ),
    "a transform without a device": Fault(
        "augment.py",
        "across = torch.randint(0, 2 * most_across + 1, (count, 1, 1), device=images.device)",
        "across = torch.randint(0, 2 * most_across + 1, (count, 1, 1))",
        "steps::augmentations and translation",
    ),
    "a transform by a mask": Fault(
        "augment.py",
        "    return torch.where(unchanged, images, moved)",
        "    moved[unchanged.flatten()] = images[unchanged.flatten()]\n    return moved",
        "steps::augmentations and geometry",
    ),
    "a branch of the adaptive augmentation": Fault(
        "augment.py",
        "due = updates >= self.every",
        "due = torch.full_like(updates, bool(updates >= self.every), dtype=torch.bool)",
        "steps::augmentations and adaptive",
    ),
    "weights of WGAN-GP from the CPU": Fault(
        "regularizers.py",
        "return torch.rand(len(images), *[1] * (images.dim() - 1), device=images.device)",
        "return torch.rand(len(images), *[1] * (images.dim() - 1))",
        "steps::penalties and WGANGP",
    ),
    "a branch of LeCam": Fault(
        "regularizers.py",
        "torch.where(average.isnan(), mean, torch.lerp(mean, average, self.decay))",
        "mean if average.isnan() else torch.lerp(mean, average, self.decay)",
        "steps::penalties and LeCam",
    ),
    "flips by a generator of the CPU": Fault(
        "data/base.py",
        "torch.Generator(floats.device).manual_seed(seed)",
        "torch.Generator().manual_seed(seed)",
        "steps::losses and Hinge",
    ),
    "order of the images on the CPU": Fault(
        "data/loaders.py",
        "to_device(self.sampler.indices(), self.images.device)",
        "self.sampler.indices()",
        "steps::recipes and small_mlp",
    ),
    "only the CPU is seeded": Fault(
        "training/randomness.py", 'if device.type != "cpu":', 'if device.type == "none":', "runs::resumed"
    ),
    "only the CPU's random numbers are restored": Fault(
        "training/randomness.py", "devices=[device] if own else []", "devices=[]", "device::preserved"
    ),
    "latents of the health monitor": Fault(
        "callbacks/health_monitor.py", "seed=0).to(device)", "seed=0)", "runs::every_callback"
    ),
    "labels of the metrics": Fault(
        "callbacks/generative_metrics.py",
        "None if labels is None else to_device(labels, model.device)",
        "labels",
        "runs::every_callback",
    ),
    "splits of the Inception Score": Fault(
        "metrics/statistics.py", "_splits(num_images).to(device)", "_splits(num_images)", "runs::commands and evaluate"
    ),
    "images on the wrong device": Fault(
        "metrics/features.py",
        "self.extract(to_device(images, self.device))",
        "self.extract(images)",
        "runs::commands and evaluate",
    ),
    "labels of samples": Fault(
        "inference.py", "None if labels is None else to_device(labels, device)", "labels", "runs::commands and sample"
    ),
    "a wait for each network": Fault(
        "module.py",
        "torch.stack([_largest(getattr(self, name)) for name in names])",
        "torch.stack([_largest(getattr(self, name)).cpu() for name in names])",
        "measuring::finite",
    ),
    "a wait for a value of the health monitor": Fault(
        "callbacks/health_monitor.py",
        '"real_logits": real_logits.mean(),',
        '"real_logits": torch.tensor(float(real_logits.mean()), device=exact),',
        "measuring::health",
    ),
    "a wait for each batch of features": Fault(
        "metrics/evaluator.py", "if is_first:", "if len(indices):", "measuring::measured_samples"
    ),
    "latents that block": Fault(
        "callbacks/generative_metrics.py", "to_device(z, model.device)", "z.to(model.device)", "measuring::in_training"
    ),
    "the real root is not kept": Fault("metrics/statistics.py", "@cached_property", "@property", "measuring::in_training"),
    "labels of an inversion": Fault(
        "inversion.py", ".flatten().to(device)  # (N * starts,)", ".flatten()  # (N * starts,)", "runs::commands and invert"
    ),
    "target of an inversion": Fault(
        "inversion.py", "(tensor.to(device).float()", "(tensor.float()", "runs::commands and inpaint"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name: str, tmp_path: Path) -> None:
    """Plant a fault in a copy of the package: its case fails."""
    fault = FAULTS[name]
    plant(fault, tmp_path)
    file, _, words = fault.case.partition("::")
    done = run_cases(tmp_path, f"{file}.py", "-k", words)
    assert done.returncode == 1, done.stdout[-3000:]


def plant(fault: Fault, folder: Path) -> None:
    """Copy the package and its tests to ``folder`` and plant a fault."""
    for part in ("gan_lightning", "tests", "scripts"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    path = folder / "gan_lightning" / fault.file
    text = path.read_text(encoding="utf-8")
    assert text.count(fault.correct) == 1, fault.correct
    path.write_text(text.replace(fault.correct, fault.faulty), encoding="utf-8")
