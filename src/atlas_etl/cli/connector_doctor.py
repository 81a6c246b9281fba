"""`atlas connector doctor`: a close look at both ends of a connector, with the fix of each finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from atlas_etl.api.examination import examine_connector
from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import Name, Streams
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.output import Output
from atlas_etl.cli.session import Session
from atlas_etl.errors import ExitCode
from atlas_etl.model import Finding, Severity

_WORST_FIRST = (Severity.PROBLEM, Severity.WARNING, Severity.NOTE, Severity.OK)
_WIDTH = max(len(severity) for severity in _WORST_FIRST)


def doctor(
    context: typer.Context,
    name: Name,
    stream: Streams = None,
    jobs: Annotated[int, typer.Option(min=1, help="The `--jobs` that syncs are given.")] = 1,
) -> None:
    """Look closely at both ends: what makes syncs slow, weak or impossible, and the fix of each.

    Nothing is changed: a few statements that read, each for a few seconds at most. Exit code of a problem:
    3 at the source, 4 at the destination or the state, 7 in the data; the least of several.

    Example: atlas connector doctor shop
    """
    session: Session = context.obj
    with interruptible():
        found = examine_connector(open_atlas(session), name, streams=tuple(stream or ()), jobs=jobs).findings
    if session.output.as_json:
        findings = [documents.finding_document(each) for each in found]
        session.output.document({"connector": name, "findings": findings})
    else:
        show_findings(session.output, found)
    raise typer.Exit(worst_exit(found))


def show_findings(output: Output, found: Sequence[Finding]) -> None:
    """For people: the worst first, each with its fix below it, and how many there are."""
    for severity in _WORST_FIRST:
        for each in found:
            if each.severity is severity:
                told = f"{severity:<{_WIDTH}}  {each.subject}: {each.check}: {each.message}"
                output.line(render.hanging(render.safe(told), _WIDTH + 2))
                if each.fix is not None:
                    output.line(render.safe(f"{'':<{_WIDTH}}  fix: {each.fix}"))
    counts = {severity: sum(each.severity is severity for each in found) for severity in _WORST_FIRST}
    output.line(
        ", ".join(_counted(severity, number) for severity, number in counts.items() if number)
        or "no findings"
    )


def _counted(severity: Severity, number: int) -> str:
    return f"{number} {severity}{'s' if number > 1 and severity is not Severity.OK else ''}"


def worst_exit(found: Iterable[Finding]) -> int:
    """The exit code of what was found: that of a problem, the least of several."""
    return min((each.exit_code for each in found if each.severity is Severity.PROBLEM), default=ExitCode.DONE)
