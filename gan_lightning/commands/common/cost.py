"""The cost of training, in seconds and bytes."""

import sys
import time

import torch

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]


def now() -> float:
    """Wait until the device is idle and return the time in seconds."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory of the device, or of the process on the CPU; 0 if the system (Windows) does not count it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
