"""Convolutions whose second derivative is made of whole convolutions."""

from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.networks.convolution import GroupedConv2d, convolve
from gan_lightning.networks.r3gan import R3GANDiscriminator
from gan_lightning.regularizers import R1, DiscriminatorBatch


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 2)])
def test_derivatives_of_convolve(stride: int, groups: int) -> None:
    """Compare first and second derivatives with finite differences, and values with torch's convolution."""
    torch.manual_seed(0)
    images = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4 // groups, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)

    def convolved(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convolve(images, weight, bias, [stride] * 2, [1, 1], groups)

    assert torch.equal(convolved(images, weight, bias), nn.functional.conv2d(images, weight, bias, stride, 1, 1, groups))
    assert torch.autograd.gradcheck(convolved, (images, weight, bias))
    assert torch.autograd.gradgradcheck(convolved, (images, weight, bias))


def test_penalties_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """R1 through R3GAN's discriminator, with its grouped convolutions as on a GPU and as on a CPU."""
    torch.manual_seed(0)
    d = R3GANDiscriminator((1, 28, 28), widths=[16, 16, 16], blocks=1, group_width=4)
    with torch.no_grad():
        for parameter in d.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    images = torch.randn(2, 1, 28, 28)
    batch = DiscriminatorBatch(images, images, None, torch.zeros(2), torch.zeros(2))
    assert sum(isinstance(module, GroupedConv2d) for module in d.modules()) == 4
    found = []
    for fast in (False, True):
        monkeypatch.setattr(GroupedConv2d, "has_fast_derivatives", staticmethod(lambda images, fast=fast: fast))
        d.zero_grad()
        (R1()(d, batch) + d(images, None).mean()).backward()
        found.append([parameter.grad for parameter in d.parameters() if parameter.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for mine, theirs in zip(*found, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in chain(*found)) > 1e-3


def test_a_cpu_uses_torchs_convolution() -> None:
    assert not GroupedConv2d.has_fast_derivatives(torch.zeros(1))
