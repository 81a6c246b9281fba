"""How connectors are, and what their tests found: as JSON, and in a few words."""

from __future__ import annotations

from datetime import datetime

from atlas_etl.cli.output import iso, run_error_document
from atlas_etl.model import ConnectionTest, ConnectorHealth


def kept_test_document(test: ConnectionTest) -> dict[str, object]:
    """One line of `connector history --tests`."""
    return {
        "connector": test.connector,
        "tested_at": test.tested_at,
        "connection_status": "failed" if test.error else "success",
        "message": test.error.message if test.error else test.message,
        "duration_seconds": round(test.seconds, 3),
        "server_version": test.server_version,
        "warnings": list(test.warnings),
        "error": run_error_document(test.error),
    }


def health_document(health: ConnectorHealth | None) -> dict[str, object]:
    """How a connector is, in `connector list` and `schedule status`."""
    if health is None:
        return {"status": "never_tested", "since": None, "tested_at": None, "error": None}
    return {
        "status": "healthy" if health.is_healthy else "failing",
        "since": health.since,
        "tested_at": health.last.tested_at,
        "error": run_error_document(health.last.error),
    }


def told_health(found: ConnectorHealth) -> str:
    """The same for people."""
    how = "healthy" if found.is_healthy else f"failing since {_time(found.since)}"
    return f"{how}, tested {_time(found.last.tested_at)}"


def _time(moment: datetime) -> str:
    return iso(moment.replace(microsecond=0))
