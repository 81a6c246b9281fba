"""What a close look finds, by check and subject."""

from __future__ import annotations

from atlas_etl.contracts import ExaminedDestination, ExaminedSource
from atlas_etl.model import Examination, Finding, Severity, Stream


class Findings(dict[tuple[str, str], Finding]):
    """`found["cursor_index", "orders.at"]` is that finding; no two may be of one check and subject."""

    def problems(self) -> list[tuple[str, str]]:
        return [key for key, each in self.items() if each.severity is Severity.PROBLEM]

    def severity(self, check: str, subject: str) -> Severity:
        return self[check, subject].severity


def look(end: object, *streams: Stream, jobs: int = 1) -> Findings:
    """Examine a connector or a destination for these streams of the connector `shop`."""
    assert isinstance(end, ExaminedSource | ExaminedDestination)
    found = list(end.examine(Examination("shop", streams, jobs)))
    keyed = Findings({(each.check, each.subject): each for each in found})
    assert len(keyed) == len(found), sorted((each.check, each.subject) for each in found)
    return keyed
