"""What becomes of a slot whose run is over: done, tried again, or a dead letter."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import datetime

from msgspec.structs import replace

from atlas_etl.contracts import ScheduleStore
from atlas_etl.errors import ExitCode
from atlas_etl.model import BreakerState, RunError, Slot, SlotStatus
from atlas_etl.scheduler.agenda import Scheduled
from atlas_etl.scheduler.events import BreakerOpened, Event, RetryPlanned, RunEnded, SlotDied, SlotSkipped
from atlas_etl.scheduler.ongoing import Ending
from atlas_etl.scheduler.retries import retry_at
from atlas_etl.scheduler.running import Running

_WHY = "what it wrote to the scheduler's standard error says why"


def settle(store: ScheduleStore, run: Running, *, now: datetime, seconds: float) -> Iterator[Event]:
    """A run that was begun here is over. May be done again where the store failed in between."""
    slot = _as_it_ended(store, run)
    if slot is None:
        return
    yield RunEnded(slot, seconds)
    if slot.status is SlotStatus.SKIPPED:
        yield SlotSkipped(slot.connector, slot.scheduled_at, slot.reason or "")
    elif run.ending is Ending.SHUTDOWN:
        store.put_back(slot, now)
    else:
        if run.ending is Ending.TIMEOUT:
            slot = replace(slot, error=_timeout(run.rules))
        yield from settle_failed(store, slot, run.rules, now)


def settle_failed(store: ScheduleStore, slot: Slot, rules: Scheduled, now: datetime) -> Iterator[Event]:
    """Decide about a failed slot about which nobody has decided yet."""
    if slot.status is not SlotStatus.FAILED or slot.retry_at is not None:
        return
    at = retry_at(slot, rules.retry, now)
    if at is not None:
        breaker = store.retry(slot, at, policy=rules.breaker, now=now)
    else:
        breaker = store.bury(slot, policy=rules.breaker, now=now)
    if breaker is None:
        return  # another daemon was faster
    if at is not None:
        yield RetryPlanned(slot, max(at, breaker.probe_at or at))
    else:
        yield SlotDied(slot)
    if breaker.state is BreakerState.OPEN:
        yield BreakerOpened(breaker)


def _as_it_ended(store: ScheduleStore, run: Running) -> Slot | None:
    """The slot, of which the store knows that its process is over."""
    slot = _slot(store, run)
    if slot is None or slot.claimed_by != run.slot.claimed_by:
        return None  # its connector was removed, or another daemon took over
    if slot.status is SlotStatus.RUNNING and slot.run_id and run.code != ExitCode.LOCKED:
        store.end_run(slot.run_id, _killed(run.code) or _end_unknown(run.code))
    elif slot.status is SlotStatus.CLAIMED:
        store.fail_claim(slot, _killed(run.code) or _not_begun(run.code))
    return _slot(store, run)


def _slot(store: ScheduleStore, run: Running) -> Slot | None:
    return store.slot(run.slot.connector, run.slot.scheduled_at)


def _timeout(rules: Scheduled) -> RunError:
    after = "" if rules.timeout is None else f" after {rules.timeout.total_seconds():g} s"
    return RunError(
        "timeout",
        f"the run was ended{after}: its timeout",
        "what it committed stays, a retry goes on from there; `scheduling: {timeout: ...}` gives more time",
        int(ExitCode.INTERRUPTED),
        retryable=True,
    )


def _killed(code: int) -> RunError | None:
    if code >= 0:
        return None
    name = signal.Signals(-code).name if -code in {*signal.Signals} else str(-code)
    return RunError("killed", f"the run's process was ended by {name}", _WHY, 1, retryable=True)


def _not_begun(code: int) -> RunError:
    message = f"the run's process ended before the run began, exit code {code}"
    return RunError("not_begun", message, _WHY, code or 1, retryable=code == ExitCode.DESTINATION)


def _end_unknown(code: int) -> RunError:
    """Of a run that could not record how it ended: whatever it was, to go on from there may help."""
    message = f"the run's process ended, exit code {code}, and could not record how its run did"
    hint = f"what it committed stays, a retry goes on from there; {_WHY}"
    return RunError("end_unknown", message, hint, code or 1, retryable=True)
