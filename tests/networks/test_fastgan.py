"""FastGAN's generator: its gates, and its channels."""

import pytest
import torch
from torch import nn

from gan_lightning.networks import FastGANGenerator
from gan_lightning.networks.fastgan import Gates
from tests.networks.test_networks import stirred


def test_gates_are_a_function_of_the_pooled_small_map() -> None:
    gates = stirred(Gates(3, 5, (4, 6), 2))
    x = torch.randn(2, 3, 8, 12)
    values = gates(x)
    assert values.shape == (2, 5, 1, 1)
    assert ((values > 0) & (values < 1)).all()
    within = torch.randn(2, 3, 4, 6)[:, :, :, None, :, None] * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])[:, None, :]
    assert torch.allclose(values, gates(x + within.reshape(2, 3, 8, 12)), atol=1e-5)  # sums to zero in each window
    for parameter in gates.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(gates(x), torch.full((2, 5, 1, 1), 0.5))


@pytest.mark.parametrize(("size", "count"), [(32, 0), (64, 1), (128, 2), (256, 3), (512, 4)])
def test_maps_16_times_larger_are_gated(size: int, count: int) -> None:
    """A closed gate on the image's own map leaves a constant image."""
    g = FastGANGenerator((3, size, size), latent_dim=4, width=4).eval()
    assert len(g.gates) == count
    z = torch.randn(2, 4)
    with torch.no_grad():
        assert g(z).std(dim=(2, 3)).min() > 0
        if count:
            *_, last = (module for module in g.gates.modules() if isinstance(module, nn.Conv2d))
            assert last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, -1e4)
            assert g(z).std(dim=(2, 3)).max() == 0


def test_the_channels_of_each_scale() -> None:
    """As in the authors' table: 16 widths at 4 pixels, 8, 4, 2, 2, 1, a half at 256 and a quarter at 512."""
    g = FastGANGenerator((3, 512, 512))
    shapes: list[tuple[int, int]] = []
    for block in (g.stem, *g.blocks):
        block.register_forward_hook(lambda _, __, x: shapes.append((x.shape[2], x.shape[1])))
    with torch.no_grad():
        g.eval()(torch.randn(1, 256))
    assert shapes == [(4, 1024), (8, 512), (16, 256), (32, 128), (64, 128), (128, 64), (256, 32), (512, 16)]
    assert sum(parameter.numel() for parameter in g.parameters()) < 32e6
