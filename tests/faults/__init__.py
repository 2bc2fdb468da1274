"""Faults from outside this project, made on purpose: each test records the fault, the number of tries, and the loss."""

import os

THOROUGH = bool(os.environ.get("GAN_LIGHTNING_THOROUGH"))
"""True to repeat each fault as often as docs/reliability.md says; else a tenth as often."""


def often(times: int) -> int:
    """Number of repetitions: ``times`` in a full run, fewer otherwise."""
    return times if THOROUGH else times // 10
