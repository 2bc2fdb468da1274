"""Random numbers that depend only on the position in a run, not on interruptions or on micro-batches."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_part: ContextVar[tuple[int, int, int] | None] = ContextVar("part", default=None)
"""First image and number of images of a part of a batch, and number of images of the batch; None is the whole batch."""


def derived_seed(use: str, *numbers: int) -> int:
    """Derive a seed in [0, 2^63) from its use and integers, such as ("step", seed, step, rank).

    Another use, other numbers, or more of them, give an unrelated seed.
    """
    digest = hashlib.sha256(repr((use, *map(int, numbers))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_device(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of ``device``. torch.manual_seed asks every backend, and that takes 0.1 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def preserved_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Restore torch's random state of the CPU and of ``device``, except MPS, after the block."""
    own = device.type not in ("cpu", "mps")  # MPS has one state, and fork_rng asks for that of a device
    return torch.random.fork_rng(devices=[device] if own else [], device_type=device.type)


def micro_batches(count: int, size: int, device: torch.device) -> Iterator[tuple[slice, float]]:
    """Split ``count`` images into micro-batches of ``size``, the last one maybe smaller: the slice and the share of each.

    While one is used, :func:`draw` returns its part of the numbers of the whole batch. So all of them together draw the same
    numbers as the whole batch at once.
    """
    if size >= count:
        yield slice(0, count), 1.0
        return
    states = _states(device)
    for begin in range(0, count, size):
        _restore(device, states)
        end = min(begin + size, count)
        with _part_of_batch(begin, end - begin, count):
            yield slice(begin, end), (end - begin) / count


@contextmanager
def _part_of_batch(begin: int, size: int, total: int) -> Iterator[None]:
    token = _part.set((begin, size, total))
    try:
        yield
    finally:
        _part.reset(token)


def draw(make: Callable[..., Tensor], *shape: int, dim: int = 0, **options: Any) -> Tensor:
    """Draw random numbers for each image of a batch, or of several batches one after another.

    Args:
        make: torch.rand, torch.randn, or a function with such arguments.
        shape: shape of the result.
        dim: its dimension that counts images.
        options: dtype and device.
    """
    part = _part.get()
    if part is None:
        return make(*shape, **options)
    begin, size, total = part
    batches = shape[dim] // size
    whole = make(*shape[:dim], batches * total, *shape[dim + 1 :], **options)
    parts = whole.view(*shape[:dim], batches, total, *shape[dim + 1 :]).narrow(dim + 1, begin, size)
    return parts.reshape(shape)


def _states(device: torch.device) -> list[Tensor]:
    """The states of torch's generators of the CPU and of ``device``."""
    return [torch.get_rng_state(), *([] if device.type == "cpu" else [torch.get_device_module(device).get_rng_state()])]


def _restore(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1])
