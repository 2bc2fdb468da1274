"""Settings of the C library's memory allocator for training on the CPU."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory for the next tensors instead of returning it to the system.

    By default glibc returns large blocks at once and requests new ones. The system clears these page by page. On the CPU this
    costs some thousand page faults per training step, sometimes as much time as its arithmetic. With this setting the process
    never shrinks.

    Returns:
        True if glibc accepts the setting; False with the C libraries of macOS, Windows and Alpine, or a replaced allocator.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, LARGEST) == 1 for option in (MMAP_THRESHOLD, TRIM_THRESHOLD))
