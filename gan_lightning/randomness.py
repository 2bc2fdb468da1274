"""Seeds that are a function of where a run stands: one that stops and goes on draws what it would have drawn anyway."""

import numpy


def derived_seed(*numbers: int) -> int:
    """A seed in [0, 2^63) for whole numbers of at least 0, such as (seed, step, process); any others give an unrelated one."""
    return int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0] >> 1)
