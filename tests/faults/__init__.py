"""Faults from outside this project, made on purpose: each test records the fault, the number of tries, and the loss."""

import os

THOROUGH = bool(os.environ.get("GAN_LIGHTNING_THOROUGH"))
"""Whether to break things as often as was promised (docs/reliability.md), or a tenth of that."""


def often(times: int) -> int:
    """Number of repetitions: ``times`` in a full run, fewer otherwise."""
    return times if THOROUGH else times // 10
