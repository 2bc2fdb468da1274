"""Freed memory is reused: counted in page faults, in a separate process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from gan_lightning.training.allocator import keep_freed_memory
def faults():
    torch.ones(2**24)  # 64 MiB, more than what glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def mean():
    counts = [faults() for _ in range(40)]  # it settles after some 10
    return (counts[-1] - counts[19]) // 20
print(mean())
assert keep_freed_memory()
print(mean())
"""
"""Prints the page faults of a step that takes 64 MiB, or 16,384 pages, and frees them: before and after the setting."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this machine's C library is not glibc")
def test_freed_memory_is_reused() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    returned, kept = map(int, done.stdout.split())
    assert returned > 10  # 16,385 without huge pages, 32 with them
    assert kept < 10  # usually 0
