"""Memory that a process has freed stays with it, ready to be used again (Linux, glibc).

The C library gives every large block back to the system when it is freed, and gets a new one for
the next tensor, which the system first fills with zeros, page by page: a sixth of a training step
of GPT-2 on a CPU.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # the names of mallopt(3)


def keep_freed_memory() -> None:
    """Ask the C library for it, where that can be asked; before the large tensors are made."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)
