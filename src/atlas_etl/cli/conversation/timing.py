"""When a connector runs: a schedule in words, shown back in words with its next slots."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from atlas_etl.cli.conversation.steps import Conversation, Text, answer, say
from atlas_etl.config.fields import check_zone
from atlas_etl.config.schedule import Cron, parse_schedule
from atlas_etl.config.schedule_words import in_words, schedule_of
from atlas_etl.config.yaml_source import Value
from atlas_etl.scheduler.due import upcoming_slots

_SLOTS = 3
_BY_HAND = {"none", "no", "never", "by hand", "manually"}


def ask_schedule(given: dict[str, Value], project_zone: str, now: datetime) -> Conversation[dict[str, Value]]:
    """`schedule` and `timezone` as a definition has them, as far as they are to be written."""
    found: dict[str, Value] = {}
    expression = str(given.get("schedule") or "")
    if not expression:
        question = "schedule, in words such as `every hour`, `weekdays at 06:30`, or as cron (Enter for none)"
        expression = yield from answer(Text(question, check=_schedule), str)
        if not expression:
            return found
        found["schedule"] = expression
    schedule = parse_schedule(expression)
    zone = str(given.get("timezone") or project_zone)
    if isinstance(schedule, Cron) and not schedule.by_elapsed_time and "timezone" not in given:
        typed = yield from answer(Text("time zone of these times", zone, check=check_zone), str)
        if typed != zone:
            found["timezone"] = zone = typed
    yield from say(told(expression, zone, now))
    yield from say(
        "It runs while `atlas schedule` does; `atlas schedule export` hands it to cron and others."
    )
    return found


def told(expression: str, zone: str, now: datetime) -> str:
    """A schedule in words, and its next slots in local time."""
    slots = upcoming_slots(parse_schedule(expression), zone, now, _SLOTS)
    coming = ", ".join(f"{slot.astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M}" for slot in slots)
    return f"{expression} means {in_words(expression)} ({zone}); next: {coming}"


def _schedule(typed: str) -> str:
    return "" if not typed.strip() or typed.strip().lower() in _BY_HAND else schedule_of(typed)
