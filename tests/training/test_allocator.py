"""Memory that was freed is kept: counted in page faults, in a process of its own."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from gan_lightning.training.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def step():
    torch.ones(2**24)  # 64 MiB, more than what glibc ever keeps by itself
for _ in range(20):  # it settles after some 10
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


def faults(how: str) -> int:
    """Page faults in one step that takes 64 MiB, or 16,384 pages, and frees them."""
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this machine's C library is not glibc")
def test_freed_memory_is_reused() -> None:
    assert faults("given back") > 10  # 16,385 without huge pages, 32 with them
    assert faults("kept") < 10  # usually 0
