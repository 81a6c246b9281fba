"""What is said and where: results on stdout, events and errors on stderr, one JSON document where asked."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from atlas_etl.cli.explanations import command_for
from atlas_etl.cli.render import plain, plain_json
from atlas_etl.connectors.waits import NAME as WAITS
from atlas_etl.errors import AtlasError, ExitCode
from atlas_etl.redactor import RedactingFormatter, redacted

if TYPE_CHECKING:
    from atlas_etl.model import RunError


class _PlainFormatter(RedactingFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class _JsonFormatter(RedactingFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return _entry(super().format(record), logger=record.name)


class _Waits(logging.Handler):
    """Waits of connectors, as events."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.event(record.getMessage())


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Output:
    """The process's stdout and stderr, and how the user wants them."""

    def __init__(self) -> None:
        self.as_json = False
        self.quiet = False
        self.verbosity = 0
        self.log_format = LogFormat.TEXT
        self._answered = False
        self.has_told_failure = False
        if logging.lastResort is not None:  # what writes the logs of libraries that nobody configured
            logging.lastResort.setFormatter(_PlainFormatter())
            logging.lastResort.setLevel(logging.WARNING)

    def configure(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbosity: int = 0,
        log_format: LogFormat = LogFormat.TEXT,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbosity = verbosity
        self.log_format = log_format
        if logging.lastResort is not None and log_format is LogFormat.JSON:
            logging.lastResort.setFormatter(_JsonFormatter())
        if logging.lastResort is not None and quiet:
            logging.lastResort.setLevel(logging.ERROR)
        waits = logging.getLogger(WAITS)
        waits.handlers = [_Waits(self)]
        waits.setLevel(logging.INFO)

    def line(self, text: str) -> None:
        """One line of a result, for people; at once, because some commands go on after it."""
        sys.stdout.write(f"{plain(text)}\n")
        sys.stdout.flush()

    def document(self, answer: Mapping[str, object]) -> None:
        """The one JSON document of this process."""
        self._answered = True
        sys.stdout.write(f"{_as_json(answer, sys.stdout)}\n")

    def event(self, text: str, **fields: object) -> None:
        """One thing that happened, on stderr; `fields` are for machines."""
        if not self.quiet:
            self._log(text, **fields)

    def error_line(self, text: str) -> None:
        """One line of an error, on stderr."""
        self.has_told_failure = True
        self._log(text)

    def error(
        self, error: RunError | AtlasError, *, connector: str | None, stream: str | None = None
    ) -> None:
        """An error on stderr: what failed, what to do, and for people the command that tells more."""
        self.has_told_failure = True
        if self.log_format is LogFormat.JSON:
            more = {"code": error.code, "hint": error.hint, "connector": connector, "stream": stream}
            self._log(error.message, **more)
            return
        where = " ".join(part for part in (connector, stream) if part)
        self._log(_told(f"error: {where}: {error.message}" if where else f"error: {error.message}"))
        if error.hint:
            self._log(f"  hint: {_told(error.hint)}")
        if explained := command_for(error.code):
            self._log(f"  more: {explained}")

    def failure(self, failure: AtlasError) -> int:
        """Say what failed, and give back the exit code."""
        if self.verbosity > 1:
            self._trace(failure)
        self.error(failure, connector=failure.connector, stream=failure.stream)
        if self.as_json and not self._answered:
            self.document({"error": error_document(failure)})
        return failure.exit_code

    def bug(self, bug: Exception) -> int:
        """A failure that nobody has named: our fault, until it is shown to be something else."""
        if self.verbosity > 1:
            self._trace(bug)
        failure = AtlasError(
            f"unexpected {type(bug).__name__}",
            hint="this is a bug in Atlas: please report it with the output of the same command and -vv",
        )
        self.failure(failure)
        return ExitCode.UNEXPECTED

    def _trace(self, failure: BaseException) -> None:
        self._log("".join(traceback.format_exception(failure)).rstrip("\n"))

    def _log(self, text: str, **fields: object) -> None:
        if self.log_format is LogFormat.JSON:
            text = _entry(text, **fields)
        sys.stderr.write(f"{plain(redacted(text))}\n")


def _entry(text: str, **fields: object) -> str:
    """One line of a log for machines."""
    return _as_json({"time": datetime.now(UTC), "message": text, **fields}, sys.stderr)


def error_document(failure: AtlasError) -> dict[str, object]:
    """The error as JSON shows it."""
    return {
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "connector": failure.connector,
        "stream": failure.stream,
    }


def run_error_document(error: RunError | None) -> dict[str, object] | None:
    """What history keeps of an error, as JSON shows it."""
    return {"code": error.code, "message": error.message, "hint": error.hint} if error else None


def _told(text: str) -> str:
    """The text, no line of which looks like the beginning of another message."""
    return plain(text).replace("\n", "\n    ")


def _as_json(answer: Mapping[str, object], stream: TextIO) -> str:
    return plain_json(json.dumps(answer, ensure_ascii=not _is_utf8(stream), default=_json_value))


def _is_utf8(stream: TextIO) -> bool:
    """Whether JSON may have every character as it is."""
    return (stream.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _json_value(value: object) -> object:
    return iso(value) if isinstance(value, datetime) else str(value)
