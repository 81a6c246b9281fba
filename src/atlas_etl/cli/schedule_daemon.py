"""`atlas schedule` without a command: the daemon, and its log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial

import typer

from atlas_etl.cli import render
from atlas_etl.cli.output import Output, iso
from atlas_etl.cli.session import Session
from atlas_etl.config.notices import notice_targets
from atlas_etl.errors import ConfigError, ExitCode, StateError
from atlas_etl.model import Run, SlotStatus
from atlas_etl.scheduler.agenda import read_agenda
from atlas_etl.scheduler.clock import Clock, SystemClock
from atlas_etl.scheduler.daemon import Daemon
from atlas_etl.scheduler.events import (
    BreakerOpened,
    ClockChanged,
    ConnectionTested,
    Event,
    RetryPlanned,
    RunEnded,
    RunStarted,
    SlotDied,
    SlotSkipped,
    Started,
    StateMoved,
    Stopped,
    Stopping,
    StoreBack,
    StoreFailed,
)
from atlas_etl.scheduler.executors import open_executor
from atlas_etl.scheduler.health import HealthServer
from atlas_etl.scheduler.metrics import Metrics
from atlas_etl.scheduler.notices import Notice, notice_of
from atlas_etl.scheduler.notify import ServiceManager
from atlas_etl.scheduler.overview import had_failed, overview
from atlas_etl.scheduler.processes import ProcessExecutor
from atlas_etl.scheduler.stores import Stores, open_stores
from atlas_etl.scheduler.webhooks import Webhooks


def serve(context: typer.Context, jobs: int | None, health_host: str, health_port: int | None) -> None:
    """Run what is scheduled until a signal ends it."""
    with SystemClock() as clock:
        while _served(context, clock, jobs, health_host, health_port):
            pass
    raise typer.Exit(ExitCode.DONE)


def _served(
    context: typer.Context, clock: Clock, jobs: int | None, health_host: str, health_port: int | None
) -> bool:
    """Whether the state store is elsewhere now, so that a new daemon is to go on there."""
    session: Session = context.obj
    folder, environ = session.project, session.environ
    agenda = read_agenda(folder, environ)
    options = ["--log-format", session.output.log_format, *_verbosity(session.output)]
    metrics = Metrics()
    with open_stores(agenda.project, context.command_path) as stores, ExitStack() as stack:
        executor = open_executor(agenda, environ, stores.schedule, options)
        tester = ProcessExecutor(folder, environ, options)
        manager = ServiceManager(environ)
        daemon = Daemon(agenda, environ, stores, executor, clock, tester=tester, jobs=jobs, manager=manager)
        if health_port is not None:
            health = HealthServer(
                health_host,
                health_port,
                vitals=daemon.vitals,
                ask_store=stores.schedule.breakers,
                metrics=lambda: metrics.text(
                    overview(daemon.agenda, stores, clock.now()), stores.state.last_completed()
                ),
            )
            stack.enter_context(health)
            where = f"http://{health_host}:{health.port}"
            session.output.event(f"health and metrics at {where}", event="health_served", url=where)
        webhooks = stack.enter_context(
            Webhooks(notice_targets(agenda.project), str(folder), partial(_not_told, session.output))
        )
        for event in _until_moved(daemon):
            tell(session.output, event)
            metrics.count(event, _run_of(stores, event))
            if isinstance(event, Started) and event.reloaded:
                with suppress(ConfigError):
                    webhooks.retarget(notice_targets(daemon.agenda.project))
            with suppress(StateError):
                late_after = daemon.agenda.settings.late_after
                failed = partial(had_failed, stores)
                notice = notice_of(event, clock.now(), late_after=late_after, had_failed=failed)
                if notice is not None:
                    webhooks.tell(notice)
    return daemon.has_moved


def _until_moved(daemon: Daemon) -> Iterator[Event]:
    """What it does; a store that is left for another one need not answer any more."""
    try:
        yield from daemon.run()
    except StateError:
        if not daemon.has_moved:
            raise


def _not_told(output: Output, target: str, notice: Notice, why: str) -> None:
    output.event(
        render.safe(f"{notice.connector}: the notice {target!r} was not told of a {notice.kind}: {why}"),
        event="notice_failed",
        connector=notice.connector,
    )


def _run_of(stores: Stores, event: Event) -> Run | None:
    """The run that an event tells of; a store that does not answer only leaves its rows uncounted."""
    run_id = event.slot.run_id if isinstance(event, RunEnded) else None
    with suppress(StateError):
        return stores.state.run(run_id) if run_id is not None else None
    return None


def _verbosity(output: Output) -> list[str]:
    """What runs write themselves: their errors, and with -v everything."""
    return [f"-{'v' * output.verbosity}"] if output.verbosity else ["--quiet"]


def tell(output: Output, event: Event) -> None:  # noqa: PLR0912  # a case for each event
    """One line of the daemon's log."""
    match event:
        case Started():
            begun = "read again" if event.reloaded else "started"
            due = f", the first run at {_time(event.next_due)}" if event.next_due else ""
            numbers = f"{event.connectors} connectors scheduled, {event.tested} tested"
            output.event(f"scheduler {begun}: {numbers}{due}", event="started")
            for problem in event.problems:
                output.error_line(render.safe(f"error: {problem}"))
            if event.problems:
                output.error_line("  what is scheduled waits until that is mended")
        case RunStarted(slot=slot):
            again = f", attempt {slot.attempts + 1}" if slot.attempts else ""
            late = f", {event.late_seconds:.0f} s late" if event.late_seconds >= 60 else ""
            _say(output, slot.connector, slot.scheduled_at, f"begins{again}{late}", "run_started")
        case RunEnded(slot=slot) if slot.status is not SlotStatus.SKIPPED:
            text = f"{slot.status} after {event.seconds:.1f} s"
            _say(output, slot.connector, slot.scheduled_at, text, "run_ended", run_id=slot.run_id)
        case SlotSkipped():
            _say(output, event.connector, event.scheduled_at, f"skipped: {event.reason}", "slot_skipped")
        case RetryPlanned(slot=slot):
            text = f"{_why(event)}; tried again at {_time(event.at)}"
            _say(output, slot.connector, slot.scheduled_at, text, "retry_planned")
        case SlotDied(slot=slot):
            text = f"failed for good: {_why(event)}; `atlas schedule dead list` shows it"
            _say(output, slot.connector, slot.scheduled_at, text, "slot_died")
        case BreakerOpened(breaker=breaker):
            until = f" until {_time(breaker.probe_at)}" if breaker.probe_at else ""
            text = f"{breaker.failures} failures in a row: it rests{until}"
            output.event(
                f"{breaker.connector}: {text}; `atlas connector resume {breaker.connector}` ends that",
                event="breaker_opened",
                connector=breaker.connector,
            )
        case ConnectionTested(test=test) if event.begins_to_fail and test.error is not None:
            line = render.safe(f"{test.connector}: its test fails: {test.error.message}")
            output.event(line, event="test_fails", connector=test.connector)
        case ConnectionTested(test=test) if event.ends_failing:
            line = render.safe(f"{test.connector}: its test succeeds again")
            output.event(line, event="test_succeeds", connector=test.connector)
        case StoreFailed():
            lasting = f" (for {event.seconds:.0f} s)" if event.seconds else ""
            output.error_line(render.safe(f"error: {event.error.message}{lasting}; trying again"))
        case StoreBack():
            output.event(f"the state store answers again, after {event.seconds:.0f} s", event="store_back")
        case ClockChanged():
            output.event(f"the clock was set back by {event.seconds:.0f} s", event="clock_changed")
        case StateMoved():
            output.event("the state store is elsewhere now: this scheduler begins anew", event="state_moved")
        case Stopping():
            ending = (
                f", {event.running} runs have {event.grace_seconds:.0f} s to end" if event.running else ""
            )
            output.event(f"scheduler stopping{ending}", event="stopping")
        case Stopped():
            ended = f"; {event.ended} runs were ended and will be run again" if event.ended else ""
            output.event(f"scheduler stopped{ended}", event="stopped")


def _say(
    output: Output, connector: str, scheduled_at: datetime, text: str, kind: str, **fields: object
) -> None:
    line = render.safe(f"{connector} {_time(scheduled_at)}: {text}")
    output.event(line, event=kind, connector=connector, scheduled_at=scheduled_at, **fields)


def _why(event: RetryPlanned | SlotDied) -> str:
    return event.slot.error.message if event.slot.error else "no reason is known"


def _time(moment: datetime) -> str:
    return iso(moment.replace(microsecond=0))
