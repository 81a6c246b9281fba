"""The errors of file systems, codecs and Arrow in the words of the error tree."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from atlas_etl.errors import DestinationError, SourceError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)

_ROW = re.compile(r"(got \d+): .*")  # CSV parse error: Expected 2 columns, got 3: a,b,c
_QUOTED = re.compile(r"'[^']*(?:'|$)")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Translate what goes wrong while a file is read to SourceError.

    Codes: `changed_while_reading` (it is gone), `file_unreadable`, `read_failed`, `invalid_text`,
    `corrupt_file`.
    """
    try:
        yield
    except FileNotFoundError as failure:
        raise changed(path) from failure
    except PermissionError as failure:
        raise SourceError(
            f"{path} may not be read", hint="check the file's owner and mode", code="file_unreadable"
        ) from failure
    except UnicodeDecodeError as failure:
        raise invalid_text(path) from failure
    except (OSError, pa.ArrowException) as failure:
        if isinstance(failure, OSError) and failure.errno is not None:
            raise SourceError(
                f"{path} cannot be read: {failure.strerror or brief(failure)}",
                code="read_failed",
                retryable=True,
            ) from failure
        if "UTF8" in str(failure):
            raise invalid_text(path) from failure
        raise SourceError(
            f"{path} is damaged or of another format: {brief(failure)}",
            hint="check that the file is complete and that its ending names its compression",
            code="corrupt_file",
        ) from failure


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Translate what goes wrong while files are written to DestinationError.

    Codes: `disk_full`, `not_writable`, `not_a_folder`, `write_failed`.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as failure:
        number = failure.errno if isinstance(failure, OSError) else None
        if number in _FULL:
            code, why, hint = (
                "disk_full",
                "there is no room left",
                "make room and sync again; nothing was changed",
            )
        elif number in _FORBIDDEN:
            code, why, hint = "not_writable", "it may not be written to", "check the folder's owner and mode"
        elif number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            code, why, hint = "not_a_folder", "a file is where a folder is needed", "choose another `path`"
        else:
            code, why, hint = "write_failed", brief(failure), "check the file system"
        raise DestinationError(f"cannot write in {path}: {why}", hint=hint, code=code) from failure


def changed(path: str) -> SourceError:
    """A file that is not what it was when its stream was opened."""
    return SourceError(
        f"{path} changed while it was read",
        hint="write files aside and rename them when they are whole; a retry reads them anew",
        code="changed_while_reading",
        retryable=True,
    )


def invalid_text(path: str) -> SourceError:
    """Bytes that are no text in the file's encoding."""
    return SourceError(
        f"{path} holds bytes that are not text in its encoding",
        hint="CSV: set `encoding`, e.g. latin-1, cp1252 or utf-16; JSON lines are always UTF-8, and Parquet "
        "has a type for bytes",
        code="invalid_text",
    )


def brief(failure: BaseException) -> str:
    """The first line of a message, at most 80 characters, without the rows and values that Arrow quotes."""
    line = str(failure).strip().partition("\n")[0]
    return _QUOTED.sub("'...'", _ROW.sub(r"\1", line))[:80]
