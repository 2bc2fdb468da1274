"""What several processes that train one model tell each other; with one process, nothing is sent.

Every function that communicates is called by all processes, in the same order.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed

BEAT = 1.0
"""Seconds between two signs of life of a process."""
SILENCE = 30.0
"""Seconds without one after which a process counts as dead."""
SUSPICION = 5.0
"""The same, where a collective has failed already, and it is only asked whose fault that is."""


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def mean(tensor: Tensor) -> Tensor:
    """The mean of ``tensor``, of any shape, over the processes; itself where there is one.

    Gradients flow back to every process's own tensor, each process's loss being one share of a sum, so that averaged
    gradients are those of the mean loss.
    """
    if count() == 1:
        return tensor
    reduced: Tensor = _Mean.apply(tensor)
    return reduced


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total / count()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return mean(gradients[0])


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, all of them in one message."""
    if count() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat / count(), [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


@torch.no_grad()
def make_alike(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by that of process 0."""
    if count() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def largest(number: int) -> int:
    """The largest of the processes' numbers. No device is waited for."""
    if count() == 1:
        return number
    held = torch.tensor(number)
    distributed.all_reduce(held, distributed.ReduceOp.MAX, group=_host_group())
    return int(held)


@cache
def _host_group() -> Any:
    """A group whose messages lie in the memory of the hosts; None is the default one, where it is such a group."""
    return None if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo")


class Watch(threading.Thread):
    """Notices that a process has died, which the others would wait for, some backends for half an hour.

    Each process gives a sign of life every :data:`BEAT` seconds, to the store by which the processes found each other, and
    looks for that of the next one. One that is silent for :data:`SILENCE` seconds, and any where the store itself is gone
    with process 0, ends this one, with an error that names it. A thread, because the main one may hang in a collective.

    Args:
        address: of the store.
        port: likewise.
        rank: of this process.
        world_size: how many there are.
        end: called with the error; does not return.
    """

    def __init__(self, address: str, port: int, rank: int, world_size: int, end: Callable[[str], Any]) -> None:
        super().__init__(daemon=True, name="watch")
        self.rank, self.world_size, self.end = rank, world_size, end
        self._stopped = threading.Event()
        self._store = distributed.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=SILENCE / 2)
        )
        self._store.set(f"watch/name/{rank}", f"process {rank} of {world_size} ({socket.gethostname()}, pid {os.getpid()})")
        self._first = self._store.get("watch/name/0").decode()  # now: the store may end with it

    def run(self) -> None:
        following = (self.rank + 1) % self.world_size
        silent, last = 0.0, -1
        try:
            while not self._stopped.wait(BEAT):
                self._store.add(f"watch/beat/{self.rank}", 1)
                beat = self._beat(following)
                silent = 0.0 if beat != last else silent + BEAT
                last = beat
                if silent >= SILENCE:
                    self._blame(following)
                if (dead := self._blamed()) is not None and not self._stopped.wait(SUSPICION):  # the main thread may know
                    self.end(self._message(dead))
        except RuntimeError:  # the store is gone: with it process 0, or the run is over there
            if not self._stopped.wait(SUSPICION):
                self.end(_message(self._first))

    def stop(self) -> None:
        """The run is over, and nobody is missed any more."""
        self._stopped.set()

    def whose_fault(self) -> str | None:
        """After a collective has failed: an error that names the process which died first; None where all are alive."""
        try:
            before = [self._beat(rank) for rank in range(self.world_size)]
            threading.Event().wait(SUSPICION)
            silent = [rank for rank in range(self.world_size) if rank != self.rank and self._beat(rank) == before[rank]]
            if silent:
                self._blame(silent[0])
            dead = self._blamed()
            return None if dead is None else self._message(dead)
        except RuntimeError:
            return _message(self._first)

    def _beat(self, rank: int) -> int:
        beat: int = self._store.add(f"watch/beat/{rank}", 0)
        return beat

    def _blame(self, rank: int) -> None:
        """Write down who died, unless that is known: whoever is missed later is missed because of it."""
        self._store.compare_set("watch/dead", "", str(rank))

    def _blamed(self) -> int | None:
        return int(self._store.get("watch/dead")) if self._store.check(["watch/dead"]) else None

    def _message(self, rank: int) -> str:
        return _message(self._store.get(f"watch/name/{rank}").decode())


def _message(name: str) -> str:
    return f"{name} has died, and the others cannot go on without it; resume from the last checkpoint by --ckpt_path"


def end_process(message: str) -> None:
    """Say why and end this process at once, with exit code 1, whatever its other threads wait for."""
    print(message, file=sys.stderr, flush=True)
    os._exit(1)
