"""Seeds that depend only on the position in a run, so that a resumed run draws the same numbers as an uninterrupted one."""

import hashlib
from contextlib import AbstractContextManager

import torch


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
