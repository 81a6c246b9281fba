"""How this process allocates: memory that is free goes back to the system at once, not to a reserve.

Large buffers come and go with every batch. Reserves of them, which Arrow's own allocator and the C library
keep by default, made a sync a third larger.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # malloc.h; https://man7.org/linux/man-pages/man3/mallopt.3.html
_LARGE_BYTES = 1024 * 1024


def give_back_at_once() -> None:
    """To be called before Arrow is imported. What the environment says of allocators stays true."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        with suppress(OSError, TypeError, AttributeError):  # other C libraries have no such function
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
