"""What may go wrong outside of this project, done on purpose: each test says what it broke, how often, and what was lost."""

import os

THOROUGH = bool(os.environ.get("GAN_LIGHTNING_THOROUGH"))
"""Whether to break things as often as was promised (docs/reliability.md), or a tenth of that."""


def often(times: int) -> int:
    """How often to do what is promised to have been done ``times`` times."""
    return times if THOROUGH else times // 10
