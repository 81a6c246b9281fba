"""A lease as its holder and as everybody else sees it: the heartbeat here, the record there."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

from atlas_etl.errors import StateError
from atlas_etl.model import Run, RunProgress
from atlas_etl.state.holder import Holder
from atlas_etl.state.outage import Outage

PROGRESS_SECONDS = 1.0
"""How often the progress of a run is published at most."""

log = logging.getLogger(__name__)


class LeaseTimes(Struct, frozen=True):
    """How often a lease is renewed, and after how many seconds of silence it is free."""

    heartbeat: float = 10.0
    expiry: float = 45.0

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat < self.expiry:
            raise ValueError("a lease must be renewed more often than it expires")


class LeaseRecord(Struct, frozen=True):
    """A lease that somebody holds, as the store keeps it; `now` is the clock that judges it."""

    connector: str
    token: int
    run_id: str
    holder: Holder
    acquired_at: datetime
    heartbeat_at: datetime
    heartbeat_tick: float
    expiry_seconds: float
    now: datetime

    def silent_too_long(self) -> bool:
        """Or its heartbeat is that far ahead: the clock was set back, and nobody renewed it since."""
        return abs(self.now - self.heartbeat_at) > timedelta(seconds=self.expiry_seconds)


class HeldLease:
    """The holder's side: renews itself from a daemon thread until it is stopped or lost.

    The thread needs the interpreter's lock for an instant every few seconds: native code that gives the
    lock up (every driver, DuckDB and Arrow do) does not disturb it. A forked child has no heartbeat and
    is not the holder.
    """

    def __init__(
        self,
        run: Run,
        token: int,
        *,
        times: LeaseTimes,
        renew: Callable[[RunProgress | None], bool],
        clock: Callable[[], float],
        taken_at: float,
        progress: Callable[[], RunProgress] | None = None,
    ) -> None:
        self._run = run
        self._token = token
        self._times = times
        self._renew = renew
        self._clock = clock
        self._progress = progress
        self._renewed_at = taken_at
        self._taken_over = False
        self._pid = os.getpid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {run.connector}", daemon=True)

    @property
    def run(self) -> Run:
        return self._run

    @property
    def token(self) -> int:
        return self._token

    def lost(self) -> bool:
        """Whether another process took the lease, or may have: the last renewal is older than the expiry."""
        return self._taken_over or self._clock() - self._renewed_at > self._times.expiry

    def held_here(self) -> bool:
        """False in a child forked from the holder, which must not give the lease back."""
        return os.getpid() == self._pid

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeat. One that hangs in the network is left behind: it can renew nothing any more."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _beat(self) -> None:
        heartbeat = self._times.heartbeat
        tick = heartbeat if self._progress is None else min(heartbeat, PROGRESS_SECONDS)
        pause, waited, published = tick, 0.0, None
        outage, name = Outage(), self._run.connector
        while not self._stop.wait(pause):
            waited += pause
            progress = None if self._progress is None else self._progress()
            if progress == published and waited < heartbeat:
                continue
            asked_at = self._clock()
            try:
                kept = self._renew(progress)
            except StateError as error:
                if (seconds := outage.failed(asked_at)) is not None:
                    lasting = f" for {seconds:.0f} s" if seconds else ""
                    log.warning("the lease of %s could not be renewed%s: %s", name, lasting, error.message)
                pause, waited = heartbeat / 4, heartbeat
                continue
            if not kept:
                self._taken_over = True
                return
            self._renewed_at = asked_at
            if (seconds := outage.over(asked_at)) is not None:
                log.warning("the lease of %s is renewed again, after %.0f s", name, seconds)
            pause, waited, published = tick, 0.0, progress
