"""Gradients replayed as graphs. A stand-in replaces CUDA graphs, except in the last test, because most machines have no GPU."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.augment import DiffAugment
from gan_lightning.callbacks.schedules import Schedules
from gan_lightning.gan import GAN
from gan_lightning.regularizers import R1
from gan_lightning.schedules import LinearSchedule
from gan_lightning.training.cuda_graphs import (
    EAGER_UPDATES,
    CUDAGraph,
    GraphedGradients,
    Inputs,
    Outputs,
    Work,
    compute_eagerly,
)
from gpu import Steps
from tests.helpers import fit, same_state, small_gan

CPU = torch.device("cpu")
RECIPES = ["digits", "cgan_mnist", "wgan_clip_mnist", "acgan_mnist", "bottleneck_mnist"]


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

    __call__ = CUDAGraph.__call__


class CopiedTwice(Recorded):
    """A fault of the past: the inputs are copied again for the first replay."""

    def replay(self) -> Outputs:
        for tensor in self.inputs:
            if tensor is not None:
                tensor.copy_(tensor.clone())
        return super().replay()


def trained(recipe: str, capture: Any = None, device: torch.device = CPU, count: int = 10) -> GAN:
    step = Steps(recipe, device, 4)
    step.model.run_gradients = compute_eagerly if capture is None else GraphedGradients(capture)
    for _ in range(count):
        step()
    return step.model


@pytest.mark.parametrize("recipe", RECIPES)
def test_replayed_gradients_train_like_eager_ones_bitwise(recipe: str) -> None:
    """Covers labels, reused fakes, lazy penalties, several updates of D, a constraint, and an average."""
    replayed = trained(recipe, Recorded)
    assert isinstance(replayed.run_gradients, GraphedGradients)
    assert replayed.run_gradients.graphs
    assert same_state(replayed, trained(recipe))


def test_each_kind_of_update_has_a_graph() -> None:
    """R1 is due in every 8th update; the generator reuses the fakes of either kind."""
    gradients = trained("cgan_mnist", Recorded, count=8 * EAGER_UPDATES + 1).run_gradients
    assert isinstance(gradients, GraphedGradients)
    kinds = {key[:-1] for key in gradients.graphs}  # without the shape
    assert kinds == {("discriminator", True, True), ("discriminator", True, False), ("generator", True), ("generator", False)}


def test_batches_of_another_size_have_another_graph() -> None:
    inner = nn.Linear(3, 1)
    gradients = GraphedGradients(Recorded)

    def work(real: Tensor, labels: Tensor | None) -> Outputs:
        inner.zero_grad()
        inner(real).sum().backward()
        return {"count": torch.tensor(float(len(real)))}

    counts = [float(gradients(("key",), work, (torch.ones(count, 3), None), inner)["count"]) for count in [4, 7] * 6]
    assert counts == [4.0, 7.0] * 6
    assert len(gradients.graphs) == 2


def test_labels_copied_before_the_capture_of_g_break_reused_fakes() -> None:
    """The fakes' autograd graph has saved the labels."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        trained("cgan_mnist", CopiedTwice)
    trained("digits", CopiedTwice)  # draws fresh fakes for G


def test_what_schedules_change_stays_in_place() -> None:
    """A graph reads the same memory in every replay."""
    model = small_gan(penalty=R1(), augmentation=DiffAugment())
    assert model.augmentation is not None
    places = [tensor.data_ptr() for tensor in (model.penalty_factor, model.augmentation.strength)]
    fit(model, callbacks=[Schedules(penalty=LinearSchedule(4), augmentation=LinearSchedule(4))], max_steps=2)
    assert [float(model.penalty_factor), float(model.augmentation.strength)] == [0.75, 0.75]
    assert [tensor.data_ptr() for tensor in (model.penalty_factor, model.augmentation.strength)] == places


def test_where_graphs_do_not_apply_the_run_is_eager() -> None:
    model = small_gan(cuda_graph=True)
    with pytest.warns(UserWarning, match="--model.cuda_graph true does not apply"):
        fit(model, max_steps=2)
    assert model.run_gradients is compute_eagerly


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", RECIPES)
def test_cuda_graphs_train_like_eager_gradients_bitwise(recipe: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        capture = partial(CUDAGraph, pool=torch.cuda.graph_pool_handle())
        assert same_state(trained(recipe, capture, torch.device("cuda")), trained(recipe, None, torch.device("cuda")))
    finally:
        torch.use_deterministic_algorithms(False)
