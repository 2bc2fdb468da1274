"""What the C library does with memory that was freed: on the CPU, the next step needs it again."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep memory that was freed, for its next tensors, instead of handing it back to the system.

    glibc hands large blocks back at once and takes new ones from the system, which clears them page by page: some thousand
    page faults in a training step on the CPU, which at times take as long as its arithmetic. The process's memory then
    stays as large as it ever was, which is what a training needs anyway.

    Returns:
        Whether that is done: by glibc, not by the C libraries of macOS, Windows or Alpine, nor where it is replaced.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, LARGEST) == 1 for option in (MMAP_THRESHOLD, TRIM_THRESHOLD))
