"""What the C library's heaps keep, in a process of its own each."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
    ),
]

HOLES = """
import numpy as np
from pathlib import Path
from cp2fast.data.sources.heap import bypass_heap, trim_heaps

def resident():
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in l)
    return int(line.split()[1]) // 1024

del (first := [np.ones(24 << 20, np.uint8)])[0]  # from now on images are taken from the heap
{before}
start = resident()
images, between = [], []
for _ in range(100):
    images.append(np.ones(2 << 20, np.uint8))
    between.append(np.ones(4096, np.uint8))
images.clear()
{after}
print(resident() - start)
"""

THREADS = """
import ctypes, threading
import numpy as np
from cp2fast.data.sources.heap import share_heaps

{before}
start, stop = threading.Barrier(9), threading.Barrier(9)

def work():
    mine = np.ones(100_000, np.uint8)
    start.wait(); stop.wait()

for _ in range(8):
    threading.Thread(target=work).start()
start.wait()
C = ctypes.CDLL(None)
C.fopen.restype, C.fclose.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
C.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
file = C.fopen({path!r}.encode(), b"w")
C.malloc_info(0, file); C.fclose(file)
stop.wait()
print(open({path!r}).read().count("<heap nr="))
"""


def printed(code: str) -> int:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_by_default_the_heap_keeps_the_holes_of_images() -> None:
    assert printed(HOLES.format(before="", after="")) > 150


def test_a_trimmed_heap_keeps_no_holes() -> None:
    assert printed(HOLES.format(before="", after="trim_heaps()")) < 20


def test_images_that_bypass_the_heap_leave_no_holes() -> None:
    assert printed(HOLES.format(before="bypass_heap()", after="")) < 20


def test_threads_share_heaps(tmp_path) -> None:
    path = str(tmp_path / "heaps.xml")
    own = printed(THREADS.format(before="", path=path))
    shared = printed(THREADS.format(before="share_heaps()", path=path))
    assert shared <= 2 < own
