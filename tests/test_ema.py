"""The moving average of the generator."""

import pytest
import torch
from torch import nn

from gan_lightning import ema


def test_parameters_are_averaged_and_buffers_copied() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ema.averaged_copy(module)
    before = average.state_dict()["0.weight"].clone()
    with torch.no_grad():
        module.get_parameter("0.weight").add_(1.0)
    module.train()(torch.randn(8, 2))
    ema.update(average, module, 0.9)
    assert torch.allclose(average.get_parameter("0.weight"), before + 0.1)
    assert torch.equal(average.get_buffer("1.running_mean"), module.get_buffer("1.running_mean"))
    assert int(average.get_buffer("1.num_batches_tracked")) == 1


def test_the_half_life_halves() -> None:
    assert ema.decay(1000, 1000.0) == 0.5
    assert ema.decay(64, 640.0) ** 10 == pytest.approx(0.5)


def test_the_average_is_independent() -> None:
    module = nn.Linear(2, 2)
    average = ema.averaged_copy(module)
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in module.parameters())
    assert average.weight.data_ptr() != module.weight.data_ptr()
