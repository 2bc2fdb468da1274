"""Inception-v3 without its 91 MB file: random weights that behave, and images to try them on."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_lightning import files
from gan_lightning.metrics.inception import inception_v3


def varied_images(count: int, seed: int, size: int = 32) -> Tensor:
    """Draw smooth colour patterns of many scales and contrasts, as diverse as photographs: uint8 (count, 3, size, size)."""
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 1, 1, generator=random)
    for scale in (2, 4, 8, 16, 32):
        pattern = torch.randn(count, 3, scale, scale, generator=random)
        contrast = torch.rand(count, 1, 1, 1, generator=random) / 4
        images = images + contrast * interpolate(pattern, size=size, mode="bilinear", align_corners=False)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def write_random_weights(path: Path, seed: int = 0, count: int = 32) -> None:
    """Write random weights in the layout of torch-fidelity's Inception file, so that the whole pipeline runs offline.

    Default initialisation gives a FID of 1e-15 and a score of 1. Such values test nothing. Here batch norms are calibrated on
    ``count`` :func:`varied_images` and shifted by one: most units are active, and rounding is not amplified from layer to
    layer. Logits are scaled to a spread of 2 over images, so that scores are not trivial.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = inception_v3()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.bias.fill_(1.0)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.normal_(module.bias, std=0.02)
    images = interpolate(varied_images(count, seed).float(), size=299, mode="bilinear").sub(128).div(128)
    network.train()(images)
    network.eval()
    logits = network(images)  # (count, 1008)
    for name, parameter in network.named_parameters():
        if name == "fc.weight":
            parameter.mul_(2 / logits.std(0).mean())
    files.save(network.state_dict(), path)
