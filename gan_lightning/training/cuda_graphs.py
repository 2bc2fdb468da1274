"""The gradients of an update, computed eagerly or replayed as a CUDA graph.

An update's gradients are everything up to ``.grad``: latents, both networks' passes, augmentation, penalties with their second
derivatives, backward. Optimizers, constraint, average and log are outside, so their settings may change from step to step.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, Tensor | None]
"""Real images (B, C, H, W), and labels (B,) or None."""
Outputs = dict[str, Tensor]
"""Values to log, by name."""
Work = Callable[[Tensor, Tensor | None], Outputs]
"""Computes gradients from the inputs and leaves them in ``.grad``."""

Key = tuple[Hashable, ...]
"""All that differs between updates without being a tensor, such as which penalties are due."""

EAGER_UPDATES = 3
"""Eager updates of each kind before its capture: cuDNN, cuBLAS and the allocator warm up."""


class Gradients(Protocol):
    """A way to compute the gradients of an update."""

    def __call__(self, key: Key, work: Work, inputs: Inputs, network: nn.Module) -> Outputs:
        """Leave the gradients of ``network`` in ``.grad``.

        Args:
            key: kind of the update; another kind may launch other kernels.
            work: computes the gradients.
            inputs: arguments of ``work``.
            network: its parameters get the gradients.
        """


def compute_eagerly(key: Key, work: Work, inputs: Inputs, network: nn.Module) -> Outputs:
    """Do the work."""
    return work(*inputs)


class Graph(Protocol):
    """Captured work."""

    def replay(self) -> Outputs:
        """Do the work again, on the inputs of the last call or of the capture."""

    def __call__(self, inputs: Inputs) -> Outputs:
        """Do the work on other inputs of the same shapes."""


class CUDAGraph:
    """Work captured as a CUDA graph.

    Args:
        work: launches kernels and waits for none.
        inputs: copied into tensors of the graph's own.
        parameters: those whose ``.grad`` the work fills.
        pool: memory that graphs of one model share; they are replayed in the order of their capture.
    """

    def __init__(self, work: Work, inputs: Inputs, parameters: Sequence[nn.Parameter], pool: Any) -> None:
        real, labels = inputs
        self.inputs = real.clone(), None if labels is None else labels.clone()
        self.parameters = parameters
        self.graph = torch.cuda.CUDAGraph()
        state = torch.cuda.get_rng_state()
        with torch.cuda.graph(self.graph, pool=pool):
            self.outputs = work(*self.inputs)
        torch.cuda.set_rng_state(state)  # the replay draws, the capture does not
        self.gradients = [parameter.grad for parameter in parameters]

    def replay(self) -> Outputs:
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.outputs

    def __call__(self, inputs: Inputs) -> Outputs:
        for mine, given in zip(self.inputs, inputs, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        return self.replay()


class GraphedGradients:
    """Gradients that are eager at first, and then replayed: one graph for each kind of update.

    Args:
        capture: captures the work of an update, given its inputs and the parameters.
    """

    def __init__(self, capture: Callable[[Work, Inputs, Sequence[nn.Parameter]], Graph] | None = None) -> None:
        self.capture = capture or partial(CUDAGraph, pool=torch.cuda.graph_pool_handle())
        self.graphs: dict[Key, Graph] = {}
        self.seen: dict[Key, int] = {}

    def __call__(self, key: Key, work: Work, inputs: Inputs, network: nn.Module) -> Outputs:
        key = *key, inputs[0].shape
        if key in self.graphs:
            return dict(self.graphs[key](inputs))
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= EAGER_UPDATES:
            return work(*inputs)
        self.graphs[key] = self.capture(work, inputs, list(network.parameters()))
        # A replay, not a call: a call copies the inputs once more. The autograd graph of kept fakes has saved the labels;
        # after another copy the capture of the generator's backward pass would refuse them as modified in place.
        return dict(self.graphs[key].replay())
