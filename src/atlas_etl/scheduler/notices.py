"""What of a scheduler's doings people are told, pure: events in, notices out, without a secret or a row.

A run that fails is told when it failed for good, and not for each try; the first one that completes after
that, as its recovery. A slot is late that begins `late_after` past its time, whatever held it up. Of the
tests of a connection the first that fails is told, and the first that succeeds after that.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

from atlas_etl.config.notices import NoticeKind, NoticeTarget, filled
from atlas_etl.model import RunError, SlotStatus
from atlas_etl.scheduler.events import BreakerOpened, ConnectionTested, Event, RunEnded, RunStarted, SlotDied

_TEXTS = {
    NoticeKind.FAILURE: "{connector} failed for good: {reason}",
    NoticeKind.RECOVERY: "{connector} completed again",
    NoticeKind.BREAKER: "{connector} rests after too many failures: {reason}",
    NoticeKind.LATE: "{connector} began late: {reason}",
    NoticeKind.UNHEALTHY: "{connector} fails its test: {reason}",
    NoticeKind.HEALTHY: "{connector} succeeds in its test again",
}


class Notice(Struct, frozen=True):
    """One thing that somebody should know."""

    kind: NoticeKind
    connector: str
    at: datetime
    scheduled_at: datetime | None = None
    run_id: str | None = None
    reason: str = ""
    hint: str = ""


def notice_of(
    event: Event, now: datetime, *, late_after: timedelta, had_failed: Callable[[str], bool]
) -> Notice | None:
    """What an event has to be told of; `had_failed`: whether a connector failed for good before this run."""
    match event:
        case SlotDied(slot=slot):
            error = slot.error or RunError("unknown", "no reason is known")
            details = (slot.scheduled_at, slot.run_id, error.message, error.hint or "")
            return Notice(NoticeKind.FAILURE, slot.connector, now, *details)
        case RunEnded(slot=slot) if slot.status is SlotStatus.COMPLETED and had_failed(slot.connector):
            return Notice(NoticeKind.RECOVERY, slot.connector, now, slot.scheduled_at, slot.run_id)
        case BreakerOpened(breaker=breaker):
            until = f" until {_time(breaker.probe_at)}" if breaker.probe_at else ""
            reason = f"{breaker.failures} in a row{until}"
            hint = f"`atlas connector resume {breaker.connector}` lets it run at once"
            return Notice(NoticeKind.BREAKER, breaker.connector, now, reason=reason, hint=hint)
        case RunStarted(slot=slot) if event.late_seconds >= late_after.total_seconds():
            reason = f"{timedelta(seconds=round(event.late_seconds))} after its time"
            return Notice(NoticeKind.LATE, slot.connector, now, slot.scheduled_at, reason=reason)
        case ConnectionTested(test=test) if event.begins_to_fail and test.error is not None:
            reason, hint = test.error.message, test.error.hint or ""
            return Notice(NoticeKind.UNHEALTHY, test.connector, now, reason=reason, hint=hint)
        case ConnectionTested(test=test) if event.ends_failing:
            return Notice(NoticeKind.HEALTHY, test.connector, now)
    return None


def is_wanted(target: NoticeTarget, notice: Notice) -> bool:
    """Whether a target is to be told."""
    return notice.kind in target.on and (not target.connectors or notice.connector in target.connectors)


def message(target: NoticeTarget, notice: Notice, project: str) -> dict[str, object]:
    """The JSON that is posted. Slack's own form: https://api.slack.com/messaging/webhooks."""
    details = {
        "event": notice.kind.value,
        "connector": notice.connector,
        "scheduled_at": _time(notice.scheduled_at) if notice.scheduled_at else "",
        "run_id": notice.run_id or "",
        "reason": notice.reason,
        "hint": notice.hint,
        "project": project,
    }
    text = filled(target.template or _TEXTS[notice.kind], details)
    if target.format == "slack":
        return {"text": _plain(text)}
    return {**details, "at": _time(notice.at), "text": text}


def _plain(text: str) -> str:
    """Text in which Slack finds no link, mention or markup of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
