"""Distance of images in the features of a network that was trained on ImageNet."""

import torch
from torch import Tensor, nn

from gan_lightning.efficientnet import load_backbone, prepare
from gan_lightning.errors import InputError


class PerceptualDistance(nn.Module):
    """Mean absolute difference of features (Johnson et al. 2016, equation 2; absolute as in Wang et al. 2018, equation 4).

    The features are the four maps of EfficientNet-Lite0, the network of extractor ``imagenet``, instead of VGG's. Each is
    divided by its standard deviation on photographs, and all count alike. Images keep their size. The network is in no
    checkpoint.

    Args:
        channels: channels of the images, 1 or 3.

    Raises:
        InputError: there are other channels, or the file of weights is damaged.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise InputError(f"images have {channels} channels, but the perceptual distance takes 1 (grey) or 3 (colour)")
        self.backbone = load_backbone()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Compute the distances (B,) of images from targets, both (B, C, H, W) in [-1, 1]. Targets get no gradient."""
        with torch.no_grad():
            wanted = self.backbone(prepare(targets))
        maps = zip(self.backbone(prepare(images)), wanted, self.backbone.deviations, strict=True)
        distances = [(one - other).float().abs().flatten(1).mean(1) / deviation for one, other, deviation in maps]
        return torch.stack(distances).mean(0)
