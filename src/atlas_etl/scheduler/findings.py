"""What the process of a `connector test` found, read from its answer, pure."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

from atlas_etl.model import ConnectionTest, RunError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BY_HAND = "`atlas connector test {}` shows it"


def finding(connector: str, code: int, answer: bytes, *, timed_out: timedelta | None) -> ConnectionTest:
    """The test, without its time: whoever began it knows that.

    `code` is the process's exit code, negative for a signal; `answer` what `connector test --json` wrote.
    """
    test = ConnectionTest(connector, _EPOCH, 0.0)
    if timed_out is not None:
        message = f"the test did not end within {timed_out.total_seconds():g} s"
        return _failed(test, RunError("timeout", message, _BY_HAND.format(connector)))
    if code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else str(-code)
        message = f"the test's process was ended by {name}"
        return _failed(test, RunError("killed", message, _BY_HAND.format(connector)))
    try:
        return _told(test, json.loads(answer))
    except (ValueError, LookupError, TypeError):
        message = f"the test's process ended with exit code {code} and told nothing"
        return _failed(test, RunError("no_answer", message, _BY_HAND.format(connector), code))


def _told(test: ConnectionTest, document: Any) -> ConnectionTest:
    """Raises ValueError, LookupError or TypeError where the document is not one of `connector test`."""
    if "error" in document:
        error = document["error"]
        return _failed(test, RunError(str(error["code"]), str(error["message"]), _text(error["hint"])))
    (result,) = document["results"]
    message = str(result["message"])
    if result["connection_status"] != "success":
        return _failed(test, RunError(str(result["code"]), message, _text(result["hint"])))
    version, warnings = _text(result["server_version"]), tuple(map(str, result["warnings"]))
    return ConnectionTest(test.connector, test.tested_at, test.seconds, message, version, warnings)


def _failed(test: ConnectionTest, error: RunError) -> ConnectionTest:
    return ConnectionTest(test.connector, test.tested_at, test.seconds, error=error)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
