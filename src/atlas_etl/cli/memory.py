"""How this process allocates and waits: nothing is kept in reserve, neither memory nor threads.

Large buffers come and go with every batch. Reserves of them, which Arrow's own allocator and the C library
keep by default, made a sync a third larger. NumPy's library for matrices, which nothing here has, starts a
thread for each processor, which waits for work in a loop.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # malloc.h; https://man7.org/linux/man-pages/man3/mallopt.3.html
_LARGE_BYTES = 4 * 1024 * 1024


def give_back_at_once() -> None:
    """To be called before Arrow and NumPy are imported. What the environment says stays true."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        with suppress(OSError, TypeError, AttributeError):  # other C libraries have no such function
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
