"""`atlas watch`: what runs now, in whichever process, until it ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas_etl.cli import render
from atlas_etl.cli.completion import CONNECTORS
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.session import Session
from atlas_etl.cli.watch_document import document
from atlas_etl.cli.watch_lines import WatchLines, last_line
from atlas_etl.cli.watch_screen import parts
from atlas_etl.config.folder import definition_path
from atlas_etl.errors import InterruptedRunError
from atlas_etl.model import Run
from atlas_etl.pipeline.run import exit_code
from atlas_etl.scheduler.agenda import read_agenda
from atlas_etl.scheduler.stores import Stores, looking_at_stores
from atlas_etl.scheduler.watching import Seen, Watch

_REFRESH = 1.0  # seconds; runs publish themselves as often
_SHOWN_ENDED = 5


def watch(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="The connector; all without it.", autocompletion=CONNECTORS)
    ] = None,
) -> None:
    """Follow what runs now, here or in another terminal, and see what comes next.

    Live on a terminal, a line for each event elsewhere; --json is one document of how it is now. It ends
    with the run, and with its exit code; where a scheduler runs, with that one. Ctrl-C ends only the
    watching (130).

    Example: atlas watch

    Example: atlas watch shop

    Example: atlas watch --json
    """
    session: Session = context.obj
    agenda = read_agenda(session.project, session.environ)
    with looking_at_stores(agenda.project) as look:
        watching = Watch(look, name)
        seen = watching.look(agenda, datetime.now(UTC))
        if name is not None and not seen.running and not look().state.history(name, limit=1):
            definition_path(session.project, name)  # nothing of that name was ever run: is there one?
        if session.output.as_json:
            session.output.document(document(seen))
            return
        try:
            with interruptible():
                _follow(session, watching, _looks(session, watching, seen))
        except (KeyboardInterrupt, InterruptedRunError):
            raise InterruptedRunError("no longer watching", hint="what runs goes on") from None
        if not watching.ended and not watching.had_daemon:
            session.output.line(_nothing(look(), name))
    raise typer.Exit(0 if watching.had_daemon and name is None else exit_code(watching.ended))


def _looks(session: Session, watching: Watch, first: Seen) -> Iterator[Seen]:
    yield first
    agenda = read_agenda(session.project, session.environ)
    while not watching.is_over:
        time.sleep(_REFRESH)
        agenda = read_agenda(session.project, session.environ, agenda, all_again=False)
        yield watching.look(agenda, datetime.now(UTC))


def _follow(session: Session, watching: Watch, looks: Iterator[Seen]) -> None:
    if not render.is_terminal_out():
        lines = WatchLines()
        for seen in looks:
            for line in lines.told(seen):
                session.output.line(render.safe(line))
            _tell_errors(session, seen.ended)
        return
    with render.Screen() as screen:
        for seen in looks:
            shown: list[Run] = watching.ended[-_SHOWN_ENDED:]
            if seen.running or seen.daemons or shown:
                screen.show(*parts(seen, shown))
    _tell_errors(session, watching.ended)


def _tell_errors(session: Session, runs: Iterable[Run]) -> None:
    for run in runs:
        if run.error is not None:
            session.output.error(run.error, connector=run.connector)


def _nothing(stores: Stores, name: str | None) -> str:
    latest = stores.state.history(name, limit=1)
    what = "nothing runs" if name is None else f"{name} does not run"
    return "\n".join([f"{what} now", *(render.hanging(last_line(run), 2) for run in latest)])
