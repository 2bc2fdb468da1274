"""Exponential moving average of the generator, and of nothing else.

Samples of an averaged generator are better than those of the generator itself (Yazici et al. 2019; Karras et al. 2018,
section 4.1). The average is a separate module outside every optimizer, so it is saved, resumed and loaded by itself.
"""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def averaged_copy(module: M) -> M:
    """Copy ``module`` to average into: in eval mode, without gradients."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def decay(images: int, halflife: float) -> float:
    """Weight of the old average after ``images`` images: ``halflife`` images halve it. A half-life of 0 keeps none of it."""
    return math.pow(0.5, images / halflife) if halflife else 0.0


@torch.no_grad()
def update(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move every parameter of ``average`` to decay * average + (1 - decay) * module, and copy the buffers.

    Buffers (batch norm's running moments) are averages already, and some are counters: they are copied.
    """
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1.0 - decay)
    for old, new in zip(average.buffers(), module.buffers(), strict=True):
        old.copy_(new)
