"""In which order a report shows connectors, and which verifications count."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from atlas_etl.api.report import ConnectorReport, in_order, latest_of
from atlas_etl.model import Run, RunStatus, RunSummary, Span, Verification, VerifyMode

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EQUAL = Verification("shop", "orders", NOON, 1.0, VerifyMode.COMPARE, 5, 5)


def report(name: str, status: RunStatus | None = None, *verified: Verification) -> ConnectorReport:
    last = None if status is None else Run("r", name, status, "test", NOON)
    return ConnectorReport(name, summary=RunSummary(last), verified=verified)


def test_what_is_wrong_comes_first() -> None:
    good, bad = RunStatus.COMPLETED, RunStatus.FAILED
    differs = replace(EQUAL, missing=1)
    found = [
        report("b", good),
        report("z", good, EQUAL, differs),
        report("c", bad),
        report("d"),
        report("a", good, EQUAL),
    ]
    assert [one.name for one in in_order(found)] == ["c", "z", "a", "b", "d"]


def test_a_stream_that_is_no_more_counts_no_more() -> None:
    gone = replace(EQUAL, stream="gone", missing=1)
    other = replace(EQUAL, connector="other")
    found = latest_of([EQUAL, gone, other], {"shop": ["orders", "new"], "other": [], "none": []})
    assert found == {"shop": (EQUAL,), "other": (other,), "none": ()}


def test_a_connector_is_the_sum_of_its_spans() -> None:
    span = Span(NOON, NOON, runs=2, failed=1, rows=7, bytes=70)
    one = ConnectorReport("shop", (span, span))
    assert (one.runs, one.failed, one.rows, one.bytes) == (4, 2, 14, 140)
