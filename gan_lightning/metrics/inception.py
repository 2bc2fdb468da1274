"""The Inception-v3 that defines FID, Inception Score and KID: TensorFlow's of 2015-12-05, with torch-fidelity's weights."""

from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from gan_lightning.errors import InputError, one_line
from gan_lightning.files import file_sha256, load
from gan_lightning.metrics.features import Extractor

SIZE = 299  # pixels
NUM_FEATURES = 2048
NUM_LOGITS = 1008
RESIZE = "bilinear to 299x299 as in TensorFlow 1 (no antialiasing, corners not aligned)"


class Inception(Extractor):
    """Pooled features (N, 2048) and unbiased logits (N, 1008), in one pass and in float32.

    Grey images become three equal channels. Every batch norm is folded into its convolution, and memory is channels_last. This
    is faster (``scripts/benchmark/metrics.py``) and changes only the last digits.

    Args:
        weights: torch-fidelity's weights file, see :func:`find_weights`.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """

    prefix = ""
    classes: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        try:
            state = load(weights, legacy=True)
        except InputError as error:
            again = "delete this file to download it again, or " if weights.parent == _hub_folder() else ""
            raise InputError(f"{str(error).rpartition(':')[0]}: {again}{_alternatives()}") from error
        network = inception_v3()
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise InputError(f"{weights} does not have torch-fidelity's weights of Inception-v3: {_alternatives()}") from error
        self.sha256 = file_sha256(weights)
        network.eval().requires_grad_(False)
        for block in network.modules():
            if isinstance(block, fidelity.BasicConv2d):
                block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
        self.body = network[:-1].to(memory_format=torch.channels_last)
        self.register_buffer("classes", dict(network.named_parameters())["fc.weight"].detach())  # (1008, 2048)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if images.shape[1] not in (1, 3):
            raise InputError(f"images have {images.shape[1]} channels: Inception takes 1 (grey) or 3 (colour)")
        resized = resize(images.expand(-1, 3, -1, -1).float())  # (N, 3, 299, 299)
        features = self.body(resized.sub_(128).div_(128).contiguous(memory_format=torch.channels_last))
        return features, functional.linear(features, self.classes)  # unbiased

    def protocol(self) -> dict[str, Any]:
        return {
            "extractor": "inception",
            "layers": "2048, logits_unbiased",
            "weights_sha256": self.sha256,
            "resize": RESIZE,
            "channels": "grey repeated three times",
            "dtype": "float32",
        }


def inception_v3() -> nn.Sequential:
    """Make the network with new weights: torch-fidelity's blocks, in order, with the names of the weights file."""
    conv, block_a, block_c = fidelity.BasicConv2d, fidelity.InceptionA, fidelity.InceptionC
    return nn.Sequential(
        OrderedDict(
            Conv2d_1a_3x3=conv(3, 32, kernel_size=3, stride=2),  # 299 to 149 pixels
            Conv2d_2a_3x3=conv(32, 32, kernel_size=3),
            Conv2d_2b_3x3=conv(32, 64, kernel_size=3, padding=1),
            MaxPool_1=nn.MaxPool2d(kernel_size=3, stride=2),  # 73
            Conv2d_3b_1x1=conv(64, 80, kernel_size=1),
            Conv2d_4a_3x3=conv(80, 192, kernel_size=3),
            MaxPool_2=nn.MaxPool2d(kernel_size=3, stride=2),  # 35
            Mixed_5b=block_a(192, pool_features=32),
            Mixed_5c=block_a(256, pool_features=64),
            Mixed_5d=block_a(288, pool_features=64),
            Mixed_6a=fidelity.InceptionB(288),  # 17
            Mixed_6b=block_c(768, channels_7x7=128),
            Mixed_6c=block_c(768, channels_7x7=160),
            Mixed_6d=block_c(768, channels_7x7=160),
            Mixed_6e=block_c(768, channels_7x7=192),
            Mixed_7a=fidelity.InceptionD(768),  # 8
            Mixed_7b=fidelity.InceptionE_1(1280),
            Mixed_7c=fidelity.InceptionE_2(2048),
            AvgPool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),  # (N, 2048)
            fc=nn.Linear(NUM_FEATURES, NUM_LOGITS),
        )
    )


def resize(images: Tensor) -> Tensor:
    """Resize float images (N, C, H, W) to (N, C, 299, 299) as TensorFlow 1's ``resize_bilinear`` does, to the last bit.

    Pixel i of the output is at i * H / 299 of the input. Rows are interpolated along the width first, then along the height:
    the reverse order gives the same numbers with more work.
    """
    left, right, across = _taps(images.shape[3], images.device)
    low, high, down = _taps(images.shape[2], images.device)
    rows = images[..., left] + (images[..., right] - images[..., left]) * across  # (N, C, H, 299)
    return rows[:, :, low] + (rows[:, :, high] - rows[:, :, low]) * down[:, None]


def _taps(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Find, for every output pixel, the two input pixels around it and its fractional position between them."""
    position = torch.arange(SIZE, device=device, dtype=torch.float32) * torch.tensor(size / SIZE, dtype=torch.float32)
    first = position.long()
    return first, (first + 1).clamp(max=size - 1), position - first


def find_weights(path: Path | None = None) -> Path:
    """Find the weights file: ``path``, else the file in torch's hub folder ($TORCH_HOME/hub/checkpoints).

    If the file is not in the hub folder, it is downloaded there.

    Raises:
        InputError: the file is missing and cannot be downloaded; the message lists the alternatives.
    """
    if path is not None:
        if not path.is_file():
            raise InputError(f"{path} does not exist: {_alternatives()}")
        return path
    url = fidelity.URL_INCEPTION_V3
    found: Path = _hub_folder() / url.rpartition("/")[2]
    if not found.is_file():
        try:
            found.parent.mkdir(parents=True, exist_ok=True)
            print(f"Downloading Inception's weights to {found}", flush=True)
            torch.hub.download_url_to_file(url, str(found), progress=True)
        except (URLError, OSError) as error:
            raise InputError(f"Inception's weights could not be downloaded ({one_line(error)}): {_alternatives()}") from error
    return found


def _hub_folder() -> Path:
    return Path(str(torch.hub.get_dir()), "checkpoints")


def _alternatives() -> str:
    """List the alternatives if the weights are unavailable."""
    return (
        f"put the file of {fidelity.URL_INCEPTION_V3} into {_hub_folder()}, or name it with --inception_weights (in training "
        "--metrics.inception_weights), or measure with --extractor imagenet, whose weights are installed, "
        "or with --extractor classifier"
    )
