"""Detection of dead and living peers."""

import time
from datetime import timedelta
from functools import partial

import pytest
from torch import distributed

from gan_lightning.training import watchdog
from gan_lightning.training.watchdog import Watchdog


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> distributed.TCPStore:  # type: ignore[name-defined]
    monkeypatch.setattr(watchdog, "HEARTBEAT", 0.05)
    monkeypatch.setattr(watchdog, "SILENCE", 2.0)
    monkeypatch.setattr(watchdog, "SUSPICION", 1.0)
    return distributed.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10)
    )


def start(store: distributed.TCPStore, messages: dict[int, str]) -> list[Watchdog]:  # type: ignore[name-defined]
    """Start the watchdogs of two processes. The message that would end a process goes to ``messages``, under its rank."""

    def end(rank: int, message: str) -> None:
        messages[rank] = message
        dogs[rank].stop()

    dogs = [Watchdog("127.0.0.1", store.port, rank, 2, partial(end, rank)) for rank in range(2)]
    for dog in dogs:
        dog.start()
    return dogs


def test_living_peers_are_left_alone(store: distributed.TCPStore) -> None:  # type: ignore[name-defined]
    messages: dict[int, str] = {}
    dogs = start(store, messages)
    time.sleep(2.5)  # longer than SILENCE
    assert dogs[0].find_cause() is None
    for dog in dogs:
        dog.stop()
    assert not messages


def test_a_silent_peer_is_named_and_ends_the_others(store: distributed.TCPStore) -> None:  # type: ignore[name-defined]
    messages: dict[int, str] = {}
    first, second = start(store, messages)
    time.sleep(0.2)
    second.stop()  # as if its process had died
    time.sleep(0.2)
    cause = first.find_cause()
    first.join(timeout=5)
    assert cause is not None
    assert cause.startswith("process 1 of 2")
    assert messages == {0: cause}
