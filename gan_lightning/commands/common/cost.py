"""The cost of training, in seconds and bytes."""

import resource
import time

import torch


def now() -> float:
    """Wait until the device is idle and return the time in seconds."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory of the device, or of the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
