"""Following what runs, one look after another: what goes on, what ended since, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from atlas_etl.contracts import StateStore
from atlas_etl.model import Daemon, LiveRun, Run, RunStatus
from atlas_etl.scheduler.agenda import Agenda, Fingerprint, of_connectors
from atlas_etl.scheduler.overview import ComingSlot, coming_slots
from atlas_etl.scheduler.stores import Stores

_PAUSE = timedelta(seconds=2)
"""As long as nothing may run between two runs of one command, or before its first one."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)
_NEWEST = 20  # runs that one look asks for
_COMING = 5


class Seen(Struct, frozen=True):
    """One look. `ended` are the runs that ended since the look before; `coming` is empty without a daemon."""

    at: datetime
    daemons: Sequence[Daemon]
    running: Sequence[LiveRun]
    ended: Sequence[Run]
    coming: Sequence[ComingSlot]


class Watch:
    """What runs, or one connector, from the first look on.

    It is over when the connector's run ended; of all connectors when nothing runs any more and no daemon
    is there to begin something. Two seconds pass until nothing counts as nothing.
    """

    def __init__(self, look: Callable[[], Stores], connector: str | None = None) -> None:
        self._look = look
        self._connector = connector
        self._first: datetime | None = None
        self._busy_at = _LONG_AGO
        self._next: Sequence[ComingSlot] | None = None
        self._next_of: Fingerprint = {}
        self._next_until = _LONG_AGO
        self._open: dict[str, Run] = {}
        self._told: set[str] = set()
        self.ended: list[Run] = []
        self.is_over = False
        self.had_daemon = False

    def look(self, agenda: Agenda, now: datetime) -> Seen:
        """How everything is now. Raises StateError."""
        if self._first is None:
            self._first = self._busy_at = now
        stores = self._look()
        running = stores.state.live(self._connector)
        daemons = stores.schedule.daemons()
        ended = self._ended_since(stores.state, {live.run.run_id for live in running})
        self._open |= {live.run.run_id: live.run for live in running}
        self.ended += ended
        self.had_daemon = self.had_daemon or bool(daemons)
        if running or ended:
            self._busy_at = now
        self.is_over = not running and self._no_more(daemons, now)
        return Seen(now, daemons, running, ended, self._coming(agenda, now) if daemons else ())

    def _coming(self, agenda: Agenda, now: datetime) -> Sequence[ComingSlot]:
        """The next slot of each connector, the first ones; looked for again where something changed."""
        if self._next is not None and self._next_of == agenda.files and self._next_until > now:
            return self._next
        names = agenda.scheduled.keys() & {self._connector} if self._connector else agenda.scheduled
        firsts = [slot for name in names for slot in coming_slots(of_connectors(agenda, {name}), now, 1)]
        firsts.sort(key=lambda slot: (slot.scheduled_at, slot.connector))
        self._next, self._next_of = firsts[:_COMING], agenda.files
        self._next_until = firsts[0].scheduled_at if firsts else _NEVER
        return self._next

    def _no_more(self, daemons: Sequence[Daemon], now: datetime) -> bool:
        if self._connector is not None and self.ended:
            return True
        return (self._connector is not None or not daemons) and now - self._busy_at > _PAUSE

    def _ended_since(self, state: StateStore, running: set[str]) -> list[Run]:
        """Also runs that began and ended between two looks; those of a busy daemon are many."""
        newest = state.history(self._connector, limit=_NEWEST)
        found = {
            run.run_id: run for run in newest if self._first is not None and run.started_at >= self._first
        }
        for run_id in self._open.keys() - running:
            run = state.run(run_id)
            if run is not None:
                found[run_id] = run
            del self._open[run_id]
        ended = [
            run
            for run_id, run in found.items()
            if run.status is not RunStatus.RUNNING and run_id not in self._told
        ]
        self._told |= {run.run_id for run in ended}
        return sorted(ended, key=lambda run: run.completed_at or run.started_at)
