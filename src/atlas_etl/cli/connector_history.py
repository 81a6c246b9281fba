"""`atlas connector history`: what runs did, what the scheduler's tests found, and what was verified."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import CONNECTORS
from atlas_etl.cli.health import kept_test_document
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.cli.sparkline import FAILED, SKIPPED, history_lines
from atlas_etl.config.folder import definition_path
from atlas_etl.errors import UsageError
from atlas_etl.model import RunStatus


def history(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="The connector; all without it.", autocompletion=CONNECTORS)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many runs, tests or verifications.")] = 20,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs that ended so.")] = None,
    tests: Annotated[
        bool, typer.Option("--tests", help="The scheduler's tests instead of the runs.")
    ] = False,
    verifications: Annotated[
        bool, typer.Option("--verifications", help="What `connector verify` found instead of the runs.")
    ] = False,
) -> None:
    """The runs, the latest first, as bars too on a terminal; or tests; or what was verified.

    Example: atlas connector history shop --limit 5

    Example: atlas connector history shop --tests
    """
    session: Session = context.obj
    given = [
        option for option, is_given in (("--tests", tests), ("--verifications", verifications)) if is_given
    ]
    if given and status is not None:
        raise UsageError(
            f"--status is about runs, and {given[0]} shows none", hint="leave one of the two out"
        )
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} show different things", hint="leave one of the two out")
    if tests:
        _tests(session, name, limit)
    elif verifications:
        _verifications(session, name, limit)
    else:
        _runs(session, name, limit, status)


def _runs(session: Session, name: str | None, limit: int, status: RunStatus | None) -> None:
    with open_atlas(session).state_to_read() as store:
        runs = store.history(name, limit=limit, status=status)
        total = store.count_runs(name, status=status)
    if name is not None and not runs:
        definition_path(session.project, name)
    if session.output.as_json:
        lines = [documents.run_document(run, with_streams=False) for run in runs]
        session.output.document({"connector": name, "total_runs": total, "runs": lines})
        return
    if not runs:
        none = f"no run is {status}" if status else "no runs yet; `atlas connector sync` begins one"
        session.output.line(none)
        return
    rows = [
        (
            run.started_at,
            run.connector,
            run.status,
            run.rows_processed,
            f"{run.duration_seconds:.1f} s" if run.duration_seconds is not None else "",
            run.triggered_by,
            run.error.message if run.error else "",
        )
        for run in runs
    ]
    render.table(("started", "connector", "status", "rows", "took", "by", "error"), rows)
    if render.is_terminal_out() and render.draws(FAILED + SKIPPED):
        session.output.line("")
        render.table(("the last on the right", "rows", "took"), history_lines(runs))


def _tests(session: Session, name: str | None, limit: int) -> None:
    with open_atlas(session).state_to_read() as store:
        tests = store.health.tests(name, limit=limit)
        total = store.health.count_tests(name)
    if name is not None and not tests:
        definition_path(session.project, name)
    if session.output.as_json:
        lines = [kept_test_document(test) for test in tests]
        session.output.document({"connector": name, "total_tests": total, "tests": lines})
        return
    rows = [
        (
            test.tested_at,
            test.connector,
            "failed" if test.error else "success",
            f"{test.seconds:.1f} s",
            test.server_version,
            test.error.message if test.error else "",
        )
        for test in tests
    ]
    render.table(("tested", "connector", "status", "took", "server", "error"), rows)


def _verifications(session: Session, name: str | None, limit: int) -> None:
    with open_atlas(session).state_to_read() as store:
        found = store.verifications.verifications(name, limit=limit)
        total = store.verifications.count(name)
    if name is not None and not found:
        definition_path(session.project, name)
    if session.output.as_json:
        lines = [documents.verification_document(each) for each in found]
        session.output.document({"connector": name, "total_verifications": total, "verifications": lines})
        return
    rows = [
        (
            each.verified_at,
            each.connector,
            each.stream,
            documents.verify_status(each),
            each.source_rows,
            each.destination_rows,
            each.missing,
            each.extra,
            each.changed,
            each.mode,
        )
        for each in found
    ]
    headings = ("verified", "connector", "stream", "result", "source rows", "destination rows")
    render.table((*headings, "missing", "extra", "changed", "mode"), rows)
