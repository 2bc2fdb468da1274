"""Waits outside of a training step: few, and no more for larger networks or more samples."""

import pytest
import torch
from torch import nn

from gan_lightning.errors import Diverged
from tests.fake_device import DEVICE, Watch, watching
from tests.helpers import small_gan


def total(watch: Watch) -> int:
    return sum(watch.waits.values())


def test_the_finite_check_waits_once() -> None:
    """For all parameters of all networks."""
    model = small_gan()
    model.generator.register_parameter("none", nn.Parameter(torch.empty(0)))
    model.to(DEVICE)
    with watching() as watch:
        model.require_finite()
    assert total(watch) == 1
    for bad in (float("nan"), float("inf"), -float("inf")):
        with torch.no_grad():
            next(model.discriminator.parameters())[0, 0] = bad
        with watching() as watch, pytest.raises(Diverged, match="the discriminator's"):
            model.require_finite()
        assert total(watch) == 1
