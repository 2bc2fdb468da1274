"""A prototype: a training step split into gradients and the rest, so that CUDA graphs can replay the gradients.

An update's gradients are everything up to ``.grad``: latents, both networks' passes, augmentation, penalties with their
second derivatives, backward. Optimizers, constraint, average and log stay as they are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gan_lightning.gan import GAN, _chunks, _cross_entropy
from gan_lightning.module import frozen
from gan_lightning.regularizers import DiscriminatorBatch, GradientPenalty

EAGER = 3
"""Eager updates of each kind before its capture: cuDNN, cuBLAS and the allocator warm up."""
Inputs = tuple[Tensor, Tensor | None]
"""Real images (B, C, H, W) and labels (B,) or None."""
Outputs = dict[str, Tensor]
Work = Callable[[Tensor, Tensor | None], Outputs]
"""Leaves gradients in ``.grad``."""


class Graph(Protocol):
    """Captured work."""

    def replay(self) -> Outputs:
        """Do the work again, on the inputs of the last call or of the capture."""

    def __call__(self, inputs: Inputs) -> Outputs:
        """Do the work on other inputs of the same shapes."""


Capture = Callable[[Work, Inputs, Sequence[nn.Parameter]], Graph]


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


def cuda_graphs() -> Capture:
    """Capture work as CUDA graphs that share one pool of memory."""
    return partial(CUDAGraph, pool=torch.cuda.graph_pool_handle())


class SplitStep:
    """A model's ``training_step``, split.

    What differs between steps without being a tensor is part of a graph's key: which penalties are due, and whether the fakes
    are kept for G's update. The penalties' factor and the augmentation's strength become tensors.

    Args:
        model: trains on one process.
        capture: captures the gradients of an update; None leaves them eager.
        separate: differentiate each gradient penalty as soon as it exists, so that its graph is freed before the next.
    """

    def __init__(self, model: GAN, capture: Capture | None = None, separate: bool = False) -> None:
        self.model, self.capture, self.separate = model, capture, separate
        self.graphs: dict[tuple[object, ...], Graph] = {}
        self.seen: dict[tuple[object, ...], int] = {}
        self.factor = torch.ones((), device=model.device)
        self.strength = torch.ones((), device=model.device)
        self.kept: Tensor | None = None  # D's last fakes with their autograd graph, for G's update

    def __call__(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> Outputs:
        model = self.model
        self.factor.fill_(model.penalty_factor)
        if model.augmentation is None:
            return self._step(batch)
        strength = model.augmentation.strength
        self.strength.fill_(strength)
        model.augmentation.strength = self.strength  # type: ignore[assignment]
        try:
            return self._step(batch)
        finally:
            model.augmentation.strength = strength

    def _step(self, batch: tuple[Tensor, Tensor | None]) -> Outputs:
        model = self.model
        g_optimizer, d_optimizer = model.optimizer_pair()
        images, labels = batch
        real_batches = list(_chunks(images, labels if model.generator.conditional else None, model.real_batches_per_step))
        outputs: Outputs = {}
        kind: tuple[object, ...] = ()
        for i, inputs in enumerate(real_batches[: model.discriminator_steps]):
            update = model.global_step * model.discriminator_steps + i
            keep = model.reuse_fakes and i + 1 == model.discriminator_steps
            kind = keep, *(update % p.every == 0 for p in model.penalties if isinstance(p, GradientPenalty))
            work = partial(self._discriminator, update=update, keep=keep)
            outputs = dict(self._run(("D", *kind), work, inputs, model.discriminator))
            d_optimizer.step()
            if model.constraint is not None:
                model.constraint(model.discriminator)
        # a graph of G that reads kept fakes belongs to the graph of D that made them: both have the same kind
        key = ("G", *kind) if model.reuse_fakes else ("G",)
        outputs |= self._run(key, self._generator, real_batches[-1], model.generator)
        g_optimizer.step()
        model.update_averages(len(real_batches[-1][0]))
        return outputs

    def _run(self, key: tuple[object, ...], work: Work, inputs: Inputs, network: nn.Module) -> Outputs:
        """Leave the gradients of an update in ``.grad``: eagerly at first, then by a graph."""
        if key in self.graphs:
            return self.graphs[key](inputs)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.capture is None or self.seen[key] <= EAGER:
            return work(*inputs)
        self.graphs[key] = self.capture(work, inputs, list(network.parameters()))
        # A replay, not a call: a call copies the inputs once more. The autograd graph of the kept fakes has saved D's labels;
        # after another copy the capture of G's backward pass would refuse them as "modified by an inplace operation".
        return self.graphs[key].replay()

    def _discriminator(self, real: Tensor, labels: Tensor | None, update: int, keep: bool) -> Outputs:
        """Gradients of an update of D."""
        model = self.model
        self.kept = None  # frees nodes that belong to the stream of an earlier update
        with torch.set_grad_enabled(keep):
            fake = model._fakes(len(real), labels)
        self.kept, fake = fake, fake.detach()
        (real_logits, real_classes), (fake_logits, fake_classes) = model._discriminate_both(real, fake, labels)
        loss = model.loss.discriminator(real_logits, fake_logits)
        outputs = {
            "discriminator_loss": loss.detach(),
            "real_probability": real_logits.detach().float().sigmoid().mean(),
            "fake_probability": fake_logits.detach().float().sigmoid().mean(),
        }
        if model.augmentation is not None:
            model.augmentation.observe(real_logits.detach())
        if real_classes is not None and fake_classes is not None:
            classification = _cross_entropy(real_classes, labels) + _cross_entropy(fake_classes, labels)
            loss = loss + model.classification_weight * classification
            outputs["classification_loss"] = classification.detach()
        later = [penalty for penalty in model.penalties if self.separate and isinstance(penalty, GradientPenalty)]
        now = [penalty for penalty in model.penalties if penalty not in later]
        batch = DiscriminatorBatch(real, fake, labels, real_logits, fake_logits, update)
        penalties = []  # what they add to the loss
        if now:
            penalties.append(self.factor * torch.stack([penalty(model._logits_for_penalties, batch) for penalty in now]).sum())
            loss = loss + penalties[0]
        model.discriminator.zero_grad()
        model.manual_backward(loss)
        for penalty in later:
            term = self.factor * penalty(model._logits_for_penalties, batch)
            if term.requires_grad:
                model.manual_backward(term)
            penalties.append(term)
        if penalties:
            outputs["penalty"] = torch.stack([term.detach() for term in penalties]).sum()
        return outputs

    def _generator(self, real: Tensor, labels: Tensor | None) -> Outputs:
        """Gradients of an update of G."""
        model = self.model
        fake = self.kept if self.model.reuse_fakes else model._fakes(len(real), labels)
        assert fake is not None
        with frozen(model.discriminator):
            real_logits = model._discriminate(model._augmented(real), labels)[0] if model.loss.generator_sees_real else None
            fake_logits, classes = model._discriminate(model._augmented(fake), labels)
            loss = model.loss.generator(real_logits, fake_logits)
            outputs = {"generator_loss": loss.detach()}
            if classes is not None:
                loss = loss + model.classification_weight * _cross_entropy(classes, labels)
            model.generator.zero_grad()
            model.manual_backward(loss)
        return outputs
