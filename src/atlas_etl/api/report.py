"""What a report shows of each connector: its runs summed over equal spans of time, what went wrong, and
whether the copy was equal to the source."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field

from atlas_etl.api.atlas import Atlas
from atlas_etl.model import Run, RunSummary, Span, Verification

SPANS = 60
_MOST_LISTED = 50
_MOST_VERIFIED = 1000


class ConnectorReport(Struct, frozen=True):
    """One connector from `since` to `until`. `last_success` may lie before, and so may what was verified."""

    name: str
    spans: tuple[Span, ...] = ()  # none where nothing ran
    summary: RunSummary = field(default_factory=RunSummary)
    last_success: datetime | None = None
    verified: tuple[Verification, ...] = ()  # the latest of each stream
    verifications: tuple[Verification, ...] = ()  # of this time, the latest first

    @property
    def runs(self) -> int:
        return sum(span.runs for span in self.spans)

    @property
    def failed(self) -> int:
        return sum(span.failed for span in self.spans)

    @property
    def rows(self) -> int:
        return sum(span.rows for span in self.spans)

    @property
    def bytes(self) -> int:
        return sum(span.bytes for span in self.spans)

    @property
    def last(self) -> Run | None:
        return self.summary.last


def project_report(
    atlas: Atlas, streams: Mapping[str, Collection[str]], since: datetime, until: datetime
) -> list[ConnectorReport]:
    """Each connector by its name; what is wrong comes first. Raises ConfigError, StateError.

    `streams` are those that a connector's definition names: of others no verification counts. None named:
    all count.
    """
    if not atlas.has_state():
        return [ConnectorReport(name) for name in sorted(streams)]
    bounds = [since + place * (until - since) / SPANS for place in range(SPANS)] + [until]
    with atlas.state_to_read() as store:
        completed, spans = store.last_completed(), store.summaries.spans(bounds)
        latest = latest_of(store.verifications.latest(), streams)
        reports = [
            ConnectorReport(
                name,
                tuple(spans.get(name, ())),
                store.summaries.summary(name, since, until, most=_MOST_LISTED),
                completed.get(name),
                latest[name],
                tuple(store.verifications.verifications(name, since=since, limit=_MOST_VERIFIED)),
            )
            for name in streams
        ]
    return in_order(reports)


def latest_of(
    found: Sequence[Verification], streams: Mapping[str, Collection[str]]
) -> dict[str, tuple[Verification, ...]]:
    """By connector, those of the streams that it has; of every stream where it names none."""
    return {
        name: tuple(each for each in found if each.connector == name and (not own or each.stream in own))
        for name, own in streams.items()
    }


def in_order(reports: Sequence[ConnectorReport]) -> list[ConnectorReport]:
    """Those whose last run failed first, then those whose copy differs, then by name."""

    def rank(one: ConnectorReport) -> tuple[int, str]:
        if one.last is not None and one.last.status.is_failure:
            return 0, one.name
        return (2 if all(each.is_equal for each in one.verified) else 1), one.name

    return sorted(reports, key=rank)
