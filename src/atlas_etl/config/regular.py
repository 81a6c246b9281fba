"""Opening a file that Atlas looks for on its own: of a pipe it would wait for a writer, perhaps for ever.

Shell completion runs this: standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """The file, or where a link leads, to read. Raises OSError, for what is no regular file as well."""
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115  # the caller closes it
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is no regular file (a pipe, a socket or a device)")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
