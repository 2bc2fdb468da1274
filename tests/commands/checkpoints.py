"""Checkpoints of tiny generators with different pictures, without training."""

from pathlib import Path
from typing import Any

import torch

from gan_lightning import files
from gan_lightning.gan import GAN
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from tests.helpers import TensorData, fit


def write_checkpoint(
    path: Path, shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 0, conditioning: Any = None
) -> Path:
    """Write a checkpoint of two tiny MLPs like train.py; its average and its raw weights are far apart."""
    torch.manual_seed(0)  # a fixture of a module is made before conftest.py seeds a test
    gan = GAN(
        MLPGenerator(shape, num_classes, latent_dim=16, hidden=[32], conditioning=conditioning),
        MLPDiscriminator(shape, num_classes, hidden=[4], conditioning=conditioning and "concatenation"),
        NonSaturatingLoss(),
        ema_halflife=500.0,
    )
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, *shape), dtype=torch.uint8, generator=random)
    labels = torch.arange(8) % num_classes if num_classes else None
    fit(gan, TensorData(images, labels, batch_size=4), max_steps=1).save_checkpoint(path, weights_only=False)
    content = files.load(path)
    for name, value in content["state_dict"].items():
        if name.startswith(("generator.", "ema.")) and value.is_floating_point() and "running" not in name:
            value += torch.randn(value.shape, generator=random) * 0.3
    files.save(content, path)
    return path
