"""EfficientNet-Lite0, compared with a forward pass written by the layers' names in the file."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.efficientnet import Backbone, load_backbone, load_network, weights_file

STRIDED = (1, 3, 5, 11)
"""Blocks that halve the size."""
STAGE_ENDS = (2, 4, 10, 15)
"""The last block of each stage."""


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
    for mine, defined in ((found, features), (named, logits), *zip(network.backbone(images), maps, strict=True)):
        assert mine.shape == defined.shape
        assert float((mine - defined).abs().max()) < 1e-4 * float(defined.abs().max())
    assert [len(stage[0]) for stage in maps] == [24, 40, 112, 320]
    assert maps[2].shape[2:] == tuple(math.ceil(pixels / 16) for pixels in size)


def test_the_backbone_moves_with_its_owner_and_is_in_no_state() -> None:
    owner = nn.Sequential(load_backbone())
    assert not list(owner.parameters())
    assert not owner.state_dict()
    images = torch.rand(1, 3, 64, 64)
    for mine, whole in zip(owner.train()[0](images), load_network().backbone(images), strict=True):
        assert torch.allclose(mine, whole, atol=1e-4)
    assert not any(module.training for module in owner[0].modules())
    assert {constant.dtype for constant in owner.double().buffers()} == {torch.float64}
    assert {constant.device.type for constant in owner.to("meta").buffers()} == {"meta"}
    assert [found.shape[1] for found in load_backbone()(images)] == list(Backbone.channels)


def test_gradients_reach_the_images_and_not_the_weights() -> None:
    """As the backbone of a discriminator needs."""
    images = torch.zeros(1, 3, 64, 64).requires_grad_()
    backbone = load_backbone()
    torch.stack([found.square().mean() for found in backbone(images)]).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().max()) > 0
    assert not any(constant.requires_grad for constant in backbone.buffers())
