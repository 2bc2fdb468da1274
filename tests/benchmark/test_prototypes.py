"""Prototypes for CUDA compute the same gradients. A stand-in replaces CUDA graphs, because nothing here runs on a GPU."""

from collections.abc import Sequence
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from gpu import EAGER, Steps, Way
from prototypes import convolution
from prototypes.split_step import Inputs, Outputs, SplitStep, Work
from tests.helpers import same_state

CPU = torch.device("cpu")
REPLAYED = ["digits", "cgan_mnist", "wgan_clip_mnist", "acgan_mnist", "bottleneck_mnist"]


class Recorded:
    """A stand-in for a CUDA graph: its capture does the work, and its first replay keeps that result."""

    def __init__(self, work: Work, inputs: Inputs, parameters: Sequence[nn.Parameter]) -> None:
        real, labels = inputs
        self.work, self.inputs = work, (real.clone(), None if labels is None else labels.clone())
        self.outputs, self.captured = work(*self.inputs), True

    def replay(self) -> Outputs:
        if not self.captured:
            self.outputs = self.work(*self.inputs)
        self.captured = False
        return self.outputs

    def __call__(self, inputs: Inputs) -> Outputs:
        for mine, given in zip(self.inputs, inputs, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        return self.replay()


class CopiedTwice(Recorded):
    """The fault of the first prototype: the inputs are copied again for the first replay."""

    def replay(self) -> Outputs:
        for tensor in self.inputs:
            if tensor is not None:
                tensor.copy_(tensor.clone())
        return super().replay()


def trained(recipe: str, way: Way = EAGER, capture: type[Recorded] | None = None, steps: int = 6) -> nn.Module:
    step = Steps(recipe, CPU, 4, way)
    if isinstance(step.model.training_step, SplitStep):
        step.model.training_step.capture = capture
    for _ in range(steps):
        step()
    return step.model


@pytest.mark.parametrize("recipe", REPLAYED)
def test_a_split_and_replayed_step_equals_the_packages_bitwise(recipe: str) -> None:
    """Covers labels, reused fakes, lazy penalties, several updates of D, a constraint, and an average."""
    steps = Steps(recipe, CPU, 4)
    assert not same_state(steps.model, expected := trained(recipe))
    assert same_state(trained(recipe, Way(split=True)), expected)
    assert same_state(trained(recipe, Way(split=True), Recorded), expected)


def test_labels_copied_before_the_capture_of_g_break_reused_fakes() -> None:
    """The failure on the GPU: the fakes' autograd graph has saved the labels."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        trained("cgan_mnist", Way(split=True), CopiedTwice)
    trained("digits", Way(split=True), CopiedTwice)  # draws fresh fakes for G


def test_penalties_differentiated_separately_have_the_same_gradients() -> None:
    for recipe in ("cgan_mnist", "r3gan_mnist_slim"):
        one, other = (Steps(recipe, CPU, 4, way) for way in (EAGER, Way(separate=True)))
        for mine, theirs in zip(*(step().items() for step in (one, other)), strict=True):
            assert mine[0] == theirs[0]
            assert torch.allclose(mine[1], theirs[1])
        for mine, theirs in zip(one.model.discriminator.parameters(), other.model.discriminator.parameters(), strict=True):
            assert mine.grad is not None
            assert theirs.grad is not None
            assert torch.allclose(mine.grad, theirs.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 2)])
def test_derivatives_of_convolve(stride: int, groups: int) -> None:
    """Compare first and second derivatives with finite differences, and values and R1's gradients with torch's convolution."""
    torch.manual_seed(0)
    images = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4 // groups, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)

    def convolved(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convolution.convolve(images, weight, bias, [stride] * 2, [1, 1], groups)

    assert torch.equal(convolved(images, weight, bias), nn.functional.conv2d(images, weight, bias, stride, 1, 1, groups))
    assert torch.autograd.gradcheck(convolved, (images, weight, bias))
    assert torch.autograd.gradgradcheck(convolved, (images, weight, bias))


def test_installed_convolutions_have_the_same_gradients() -> None:
    """Check R1 and R2 through the grouped convolutions of R3GAN's discriminator."""
    one, other = (Steps("r3gan_mnist_slim", CPU, 2, way) for way in (EAGER, Way(convolution=True)))
    one(), other()
    parameters = (step.model.discriminator.parameters() for step in (one, other))
    grads = [(a.grad, b.grad) for a, b in zip(*parameters, strict=True)]
    assert any(a is not None for a in chain(*grads))
    for a, b in grads:
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)
