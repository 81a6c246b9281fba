"""Writing a file whole or not at all, whatever kills the process."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from atlas_etl.errors import ConfigError

PRIVATE = 0o600
ORDINARY = 0o666  # less the umask


def write_atomically(path: Path, text: str, mode: int) -> None:
    """Put the text beside the file, flush it to the disk, and rename it over the file.

    `mode` (PRIVATE or ORDINARY) never widens what a file that is there allows. A link is followed, so
    that what it points to changes. Raises ConfigError (`file_unwritable`).
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(handle, "w", encoding="utf-8", newline="\n") as file:
                if path.exists():
                    os.fchmod(handle, path.stat().st_mode & mode)
                elif mode == PRIVATE:
                    os.fchmod(handle, PRIVATE)  # whatever the umask
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", code="file_unwritable") from None


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
