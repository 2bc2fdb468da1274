"""Checkpoints of tiny translations, trained for one step."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lightning.data import Degradation, Derived, Downscale, Edges, Grey, Hole
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.module import AdversarialModule
from gan_lightning.networks import PatchDiscriminator, SRResNet, UNetGenerator
from gan_lightning.networks.base import Translator
from gan_lightning.translation import PairedTranslation
from tests.helpers import TensorData, fit
from tests.translators import small_cycle

COLOUR = (3, 16, 16)


def photographs(count: int = 8, shape: tuple[int, int, int] = COLOUR) -> Tensor:
    """Noise as images uint8 (count, C, H, W)."""
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def derived(degradation: Degradation, shape: tuple[int, int, int] = COLOUR) -> Derived:
    """Make data of photographs and their degradations."""

    def source(root: Any = None, **arguments: Any) -> TensorData:
        return TensorData(photographs(8, shape), **arguments)

    return Derived(source, degradation, batch_size=4)


def write(path: Path, model: AdversarialModule, data: Any) -> Path:
    """Write a checkpoint after one step. The weights of average and generator are then moved far apart."""
    trainer = fit(model, data, max_steps=1)
    for i, name in enumerate(("generator", "ema", "inverse_generator", "inverse_ema")):
        random = torch.Generator().manual_seed(i)
        network = getattr(model, name, None)
        for weight in () if network is None else network.parameters():
            weight.data += 0.1 * torch.randn(weight.shape, generator=random)
    trainer.save_checkpoint(path, weights_only=False)
    return path


def write_translation(path: Path, degradation: Degradation) -> Path:
    """Write the checkpoint of a paired translation of colour images."""
    torch.manual_seed(0)
    data = derived(degradation)
    generator: Translator
    if data.source_shape[1] < data.image_shape[1]:
        generator = SRResNet(data.image_shape, data.source_shape, width=4, blocks=1)
    else:
        generator = UNetGenerator(data.image_shape, data.source_shape, width=4, depth=2)
    discriminator = PatchDiscriminator(data.image_shape, source_shape=data.source_shape, width=4, layers=1)
    model = PairedTranslation(generator, discriminator, NonSaturatingLoss(), ema_halflife=500.0)
    return write(path, model, data)


def write_cycle(path: Path) -> Path:
    """Write the checkpoint of a CycleGAN of grey images of 8 pixels."""
    from tests.translators import pairs

    torch.manual_seed(0)
    return write(path, small_cycle(ema_halflife=500.0, pool_size=4), pairs(8))


def write_all(folder: Path) -> dict[str, Path]:
    """Write a checkpoint of each kind: colour, enlarge, fill, draw, cycle."""
    degradations = {"colour": Grey(), "enlarge": Downscale(2), "fill": Hole(), "draw": Edges()}
    paths = {name: write_translation(folder / f"{name}.ckpt", how) for name, how in degradations.items()}
    return {**paths, "cycle": write_cycle(folder / "cycle.ckpt")}
