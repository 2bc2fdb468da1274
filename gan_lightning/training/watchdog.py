"""Detection of dead processes: a collective would wait for them, with some backends for half an hour."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch import distributed

HEARTBEAT = 1.0
"""Seconds between two heartbeats of a process."""
SILENCE = 30.0
"""Seconds without a heartbeat after which a process counts as dead."""
SUSPICION = 5.0
"""The same in seconds, once a collective has failed and the question is which process caused it."""


class Watchdog(threading.Thread):
    """Ends this process if a peer sends no heartbeat for :data:`SILENCE` seconds or the store is lost.

    Each process sends a heartbeat every :data:`HEARTBEAT` seconds to the store through which the processes found each other,
    and watches the process of the next rank. The store lives in process 0 and is lost with it. The error names the process
    that died. This is a thread because the main thread may hang in a collective.

    Args:
        address: host of the store.
        port: port of the store.
        rank: rank of this process.
        world_size: number of processes.
        end: called with the error message; does not return.
    """

    def __init__(self, address: str, port: int, rank: int, world_size: int, end: Callable[[str], Any]) -> None:
        super().__init__(daemon=True, name="watchdog")
        self.rank, self.world_size, self.end = rank, world_size, end
        self._stopped = threading.Event()
        self._store = distributed.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=SILENCE / 2)
        )
        self._store.set(f"watch/name/{rank}", f"process {rank} of {world_size} ({socket.gethostname()}, pid {os.getpid()})")
        self._first = self._store.get("watch/name/0").decode()  # now: process 0 may take the store with it

    def run(self) -> None:
        following = (self.rank + 1) % self.world_size
        silent, last = 0.0, -1
        try:
            while not self._stopped.wait(HEARTBEAT):
                self._store.add(f"watch/beat/{self.rank}", 1)
                beat = self._beat(following)
                silent = 0.0 if beat != last else silent + HEARTBEAT
                last = beat
                if silent >= SILENCE:
                    self._report_dead(following)
                # the main thread may report the failure itself and stop this one
                if (dead := self._dead()) is not None and not self._stopped.wait(SUSPICION):
                    self.end(self._message(dead))
        except RuntimeError:  # the store is lost: process 0 has died, or its run is over
            if not self._stopped.wait(SUSPICION):
                self.end(_message(self._first))

    def stop(self) -> None:
        """Stop watching: the run is over."""
        self._stopped.set()

    def find_cause(self) -> str | None:
        """Find the process whose death made a collective fail. Takes :data:`SUSPICION` seconds.

        Returns:
            the error message that names the first process that died; None if all are alive.
        """
        try:
            before = [self._beat(rank) for rank in range(self.world_size)]
            threading.Event().wait(SUSPICION)
            silent = [rank for rank in range(self.world_size) if rank != self.rank and self._beat(rank) == before[rank]]
            if silent:
                self._report_dead(silent[0])
            dead = self._dead()
            return None if dead is None else self._message(dead)
        except RuntimeError:
            return _message(self._first)

    def _beat(self, rank: int) -> int:
        beat: int = self._store.add(f"watch/beat/{rank}", 0)
        return beat

    def _report_dead(self, rank: int) -> None:
        """Record which process died. The first record counts: later deaths follow from it."""
        self._store.compare_set("watch/dead", "", str(rank))

    def _dead(self) -> int | None:
        return int(self._store.get("watch/dead")) if self._store.check(["watch/dead"]) else None

    def _message(self, rank: int) -> str:
        return _message(self._store.get(f"watch/name/{rank}").decode())


def _message(name: str) -> str:
    return f"{name} has died, and the others cannot continue without it: resume from the last checkpoint with --ckpt_path"


def end_process(message: str) -> None:
    """Print an error and end this process at once with exit code 1, even if other threads hang."""
    print(message, file=sys.stderr, flush=True)
    os._exit(1)
