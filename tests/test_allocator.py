"""Memory that is kept, and in huge pages: asked of the system by a process of its own."""

import mmap
import subprocess
import sys

import pytest

from gptlab import allocator

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
FLAGS = """
import ctypes, platform
from pathlib import Path
from gptlab.allocator import keep_freed_memory
{before}
keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
place = library.malloc(ctypes.c_size_t(2**26)) + 2**25  # within, where pages are whole
for line in Path("/proc/self/smaps").read_text().splitlines():
    words = line.split()
    if "-" in words[0] and not words[0].endswith(":"):
        start, end = (int(x, 16) for x in words[0].split("-"))
    elif words[0] == "VmFlags:" and start <= place < end:
        print(platform.libc_ver()[0], "hg" in words)
"""


def is_huge(before: str = "") -> bool:
    """Whether huge pages are wanted for what is made then."""
    done = subprocess.run(
        [sys.executable, "-c", FLAGS.format(before=before)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if not done.stdout.startswith("glibc"):
        pytest.skip("of glibc, where the system tells about memory")
    return done.stdout.split()[1] == "True"


BOUND = "import resource; resource.setrlimit(resource.RLIMIT_{}, (2**36, 2**36))"
COUNTED = """
import gptlab.allocator as a
a.Path = lambda name: type("File", (), {"read_text": lambda self, _: "2\\n"})()
"""


@LINUX
def test_large_tensors_lie_in_huge_pages():
    if allocator._is_bounded():
        pytest.skip("this process or system is bounded")
    try:
        mmap.mmap(-1, 2**22).madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        pytest.skip("the system has no huge pages")
    assert is_huge()
    assert not is_huge("keep_freed_memory = lambda: None")


@LINUX
@pytest.mark.parametrize(
    "before", [BOUND.format("AS"), BOUND.format("DATA"), COUNTED], ids=["as", "data", "counted"]
)
def test_a_process_whose_memory_is_bounded_asks_for_no_more_than_it_needs(before: str):
    assert not is_huge(before)
