"""The process's standard streams, made fit for any caller: closed, full, no longer read, or not UTF-8."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from atlas_etl.errors import AtlasError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Stdout(io.FileIO):
    """Where results go. A reader who has seen enough (`| head -1`) is no failure."""

    given_up = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self.given_up:
            try:
                return super().write(data) or 0
            except BrokenPipeError:
                self.given_up = True
            except OSError as failure:
                self.given_up = True
                raise AtlasError(
                    f"the answer could not be written to standard output: {failure.strerror}",
                    hint="what the command has done stays; ask for the answer again where there is room",
                    code="output",
                ) from failure
        return memoryview(data).nbytes


class BinaryStdout(io.RawIOBase):
    """Standard output for bytes; closing it leaves the stream open."""

    @property
    def given_up(self) -> bool:
        """Whether nobody reads any more."""
        return bool(getattr(getattr(sys.stdout.buffer, "raw", None), "given_up", False))

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        return sys.stdout.buffer.write(data)

    def flush(self) -> None:
        sys.stdout.buffer.flush()


class _Stderr(io.FileIO):
    """Where events and errors go: not being heard keeps nothing from being done."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def open_standard_streams() -> None:
    """Put streams in the place of sys.stdin, stdout and stderr that are there and take any text.

    What the caller closed is opened on the null device: otherwise the next file that is opened, such as
    the warehouse, would get its number, and with it whatever a library writes to standard error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # for as long as the process
    sys.stdout = _opened(_Stdout(1, "w", closefd=False), sys.stdout)
    sys.stderr = _opened(_Stderr(2, "w", closefd=False), sys.stderr, line_buffering=True)


def _opened(raw: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    encoding = before.encoding if before is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=line_buffering or raw.isatty(),
    )
