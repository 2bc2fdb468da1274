"""Collectives for processes that train or measure together. A process that works alone sends nothing.

Call each function that communicates in all processes, and in the same order.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gan_lightning.errors import InputError


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Number of processes that work together."""
    return dist.get_world_size() if _is_initialized() else 1


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def is_first_process() -> bool:
    """Check if this process reports for all: it is alone or has rank 0."""
    return rank() == 0


def is_first_to_report() -> bool:
    """Check if this process is the first of all that calls this, so that an error that several find is printed once."""
    try:
        return bool(dist.distributed_c10d._get_default_store().add("gan_lightning/reports", 1) == 1)
    except (RuntimeError, ValueError):  # the process that holds the store has ended
        return True


def on_first_process(make: Callable[[], Any]) -> Any:
    """Call ``make`` in the first process and return its result, a picklable object, in every process.

    Raises:
        InputError: in every process, if ``make`` raised it in the first.
    """
    if world_size() == 1:
        return make()
    result: list[Any] = [None, None]  # the object, or the message of the error
    if rank() == 0:
        try:
            result = [make(), None]
        except InputError as error:
            result = [None, str(error)]
    dist.broadcast_object_list(result, src=0)
    if result[1] is not None:
        raise InputError(result[1])
    return result[0]


def mean(tensor: Tensor) -> Tensor:
    """Average ``tensor``, of any shape, over the processes. A single process gets the tensor itself back.

    Gradients flow back to each process's own tensor. Each process's loss counts as one share of a sum, so averaged gradients
    are those of the mean loss.
    """
    if world_size() == 1:
        return tensor
    reduced: Tensor = _Mean.apply(tensor)
    return reduced


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return mean(gradients[0])


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes. One message carries them all."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = torch.split(flat / world_size(), [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """Stack the tensors of all W processes, each of the same shape: (W, ...)."""
    if world_size() == 1:
        return tensor[None]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor)
    return torch.stack(parts)


@torch.no_grad()
def broadcast_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by that of process 0."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def largest(number: int) -> int:
    """Return the largest of the processes' numbers. Waits for no device."""
    if world_size() == 1:
        return number
    held = torch.tensor(number)
    dist.all_reduce(held, dist.ReduceOp.MAX, group=_host_group())
    return int(held)


@cache
def _host_group() -> Any:
    """Make a group whose messages stay in host memory. None is the default group, if it is such a group."""
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
