"""Seeds that are a function of where a run stands: one that stops and goes on draws what it would have drawn anyway."""

import numpy
import torch


def derived_seed(*numbers: int) -> int:
    """A seed in [0, 2^63) for whole numbers of at least 0, such as (seed, step, process); any others give an unrelated one."""
    return int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0] >> 1)


def seed_device(seed: int, device: torch.device) -> None:
    """Seed what torch draws with on the CPU and on a device: torch.manual_seed asks every backend there is, for 0.1 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).manual_seed(seed)
