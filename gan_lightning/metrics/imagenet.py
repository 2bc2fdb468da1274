"""EfficientNet-Lite0, trained on ImageNet: an extractor for photographs."""

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan_lightning.efficientnet import PACKAGE, load_network, weights_file
from gan_lightning.errors import InputError
from gan_lightning.files import file_sha256
from gan_lightning.metrics.features import Extractor

SIZE = 224  # pixels
PART = 16  # images per part: in parts of 50, each image took a quarter longer on a CPU


class ImageNet(Extractor):
    """Pooled features (N, 1280) and logits (N, 1000) of EfficientNet-Lite0, in one pass and in float32.

    The whole image is resized to 224x224 pixels (bicubic with antialiasing, as Pillow's) and scaled to (x - 127) / 128, as
    in the training of the network. Grey images become three equal channels.

    Raises:
        InputError: the package's file of weights is damaged.
    """

    prefix = "imagenet_"

    def __init__(self) -> None:
        super().__init__()
        self.network = load_network().to(memory_format=torch.channels_last)
        self.sha256 = file_sha256(weights_file())

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if images.shape[1] not in (1, 3):
            raise InputError(f"images have {images.shape[1]} channels: extractor imagenet takes 1 (grey) or 3 (colour)")
        features, logits = zip(*(self.network(prepare(part)) for part in torch.split(images, PART)), strict=True)
        return torch.cat(features), torch.cat(logits)

    def protocol(self) -> dict[str, Any]:
        return {
            "extractor": "imagenet",
            "layers": "EfficientNet-Lite0: 1280 pooled features, 1000 logits",
            "weights_package": f"{PACKAGE} {version(PACKAGE)}",
            "weights_sha256": self.sha256,
            "resize": "whole image, bicubic (a = -0.5) with antialiasing to 224x224",
            "scale": "(x - 127) / 128",
            "channels": "grey repeated three times",
            "dtype": "float32",
        }


def prepare(images: Tensor) -> Tensor:
    """Resize and scale images uint8 (N, 1 or 3, H, W) for the network: float32 (N, 3, 224, 224)."""
    resized = interpolate(images.float(), (SIZE, SIZE), mode="bicubic", antialias=True)
    return resized.sub_(127).div_(128).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
