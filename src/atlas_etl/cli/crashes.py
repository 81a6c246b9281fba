"""What Python itself writes to stderr, without secrets: of threads, finalizers, warnings, broken logs."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import TextIO

from atlas_etl.redactor import redacted


def redact_crashes() -> None:
    """From now on, in this process."""
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread
    warnings.showwarning = _warning
    logging.raiseExceptions = False  # it would show a record's arguments


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _tell("".join(traceback.format_exception(kind, error, trace)))


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    text = traceback.format_exception(found.exc_type, found.exc_value, found.exc_traceback)
    _tell(f"{found.err_msg or 'Exception ignored'}\n{''.join(text)}")


def _in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_type is not SystemExit:
        name = found.thread.name if found.thread else "?"
        text = traceback.format_exception(found.exc_type, found.exc_value, found.exc_traceback)
        _tell(f"Exception in thread {name}:\n{''.join(text)}")


def _warning(  # noqa: PLR0917  # as warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _tell(warnings.formatwarning(message, category, filename, lineno, line), file)


def _tell(text: str, file: TextIO | None = None) -> None:
    (file or sys.stderr).write(redacted(text))
