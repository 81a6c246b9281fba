"""What is said and where: results on stdout, events and errors on stderr, one JSON document where asked."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from atlas_etl.cli.explanations import command_for
from atlas_etl.cli.render import plain, plain_json
from atlas_etl.errors import AtlasError, ExitCode
from atlas_etl.model import RunError
from atlas_etl.redactor import RedactingFormatter, redacted


class _PlainFormatter(RedactingFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


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

    def line(self, text: str) -> None:
        """One line of a result, for people."""
        sys.stdout.write(f"{plain(text)}\n")

    def document(self, answer: Mapping[str, object]) -> None:
        """The one JSON document of this process."""
        self._answered = True
        sys.stdout.write(f"{_as_json(answer, sys.stdout)}\n")

    def event(self, text: str, **fields: object) -> None:
        """One thing that happened, on stderr; `fields` are for machines."""
        if self.quiet:
            return
        if self.log_format is LogFormat.JSON:
            entry = {"time": datetime.now(UTC), "message": text, **fields}
            text = _as_json(entry, sys.stderr)
        sys.stderr.write(f"{plain(redacted(text))}\n")

    def error_line(self, text: str) -> None:
        """One line of an error, on stderr."""
        self.has_told_failure = True
        sys.stderr.write(f"{plain(redacted(text))}\n")

    def told_error(self, line: str, hint: str | None, code: str) -> None:
        """An error for people, on stderr: what failed, what to do, and the command that tells more."""
        self.error_line(line)
        if hint:
            self.error_line(f"  hint: {hint}")
        if explained := command_for(code):
            self.error_line(f"  more: {explained}")

    def failure(self, failure: AtlasError) -> int:
        """Say what failed, and give back the exit code."""
        self.has_told_failure = True
        if self.verbosity > 1:
            self._trace(failure)
        where = " ".join(part for part in (failure.connector, failure.stream) if part)
        prefix = f"error: {where}: " if where else "error: "
        if self.log_format is LogFormat.JSON:
            self._log_error(failure)
        else:
            self.told_error(
                _told(prefix + failure.message), failure.hint and _told(failure.hint), failure.code
            )
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
        sys.stderr.write(plain(redacted("".join(traceback.format_exception(failure)))))

    def _log_error(self, failure: AtlasError) -> None:
        entry = {"time": datetime.now(UTC), "message": failure.message, **error_document(failure)}
        sys.stderr.write(f"{_as_json(entry, sys.stderr)}\n")


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
