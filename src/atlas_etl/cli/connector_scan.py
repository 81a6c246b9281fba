"""`atlas connector scan`: which columns hold personal data, and the rules to paste."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.api.scan import StreamScan, scan_connector
from atlas_etl.cli import render
from atlas_etl.cli.completion import Name, Streams
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.config.yaml_text import dump
from atlas_etl.protection.presidio import presidio_finder
from atlas_etl.protection.texts import found_by_format


def scan(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    name: Name,
    stream: Streams = None,
    rows: Annotated[int, typer.Option(min=1, max=1_000_000, help="Sample the first rows, so many.")] = 10_000,
    presidio: Annotated[
        bool, typer.Option("--presidio", help="Look for names and more in long texts, by Microsoft Presidio.")
    ] = False,
    language: Annotated[str, typer.Option(help="The language of the texts, for --presidio.")] = "en",
) -> None:
    """Which columns hold personal data, by their names and a sample of rows, and the rules to paste.

    Values are not shown. A guess: what it does not find may be there.

    Example: atlas connector scan shop --rows 50000
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    find, note = presidio_finder(language) if presidio else (found_by_format, None)
    with interruptible():
        found = list(scan_connector(atlas, name, streams=tuple(stream or ()), rows=rows, find=find))
    if note:
        session.output.event(f"warning: {note}")
    if session.output.as_json:
        session.output.document({"connector": name, "streams": [_document(each) for each in found]})
        return
    for number, each in enumerate(found):
        if number:
            session.output.line("")
        _show(session, each)


def _show(session: Session, found: StreamScan) -> None:
    sample = f"{found.stream}: the first {found.sampled_rows:,} rows"
    if not found.findings:
        session.output.line(render.safe(f"{sample}, nothing found"))
        return
    session.output.line(render.safe(sample))
    lines = [
        (
            each.column,
            found.types[each.column],
            each.kind.name,
            f"{each.confidence:.2f}",
            "" if each.share is None else f"{each.share:.0%} of {each.checked:,}",
            " and ".join(each.by),
            str(found.protected.get(each.column, "")),
        )
        for each in found.findings
    ]
    render.table(("column", "type", "kind", "confidence", "values", "by", "protected"), lines)
    if found.proposed:
        session.output.line("to protect them, put below the stream:")
        for line in dump({"protect": dict(found.proposed)}).splitlines():
            session.output.line(render.safe(f"    {line}"))
    for column in found.unprotectable:
        session.output.event(
            render.safe(
                f"warning: {found.stream}: {column} is the cursor and can have no rule; choose another"
            )
        )


def _document(found: StreamScan) -> dict[str, object]:
    return {
        "name": found.stream,
        "sampled_rows": found.sampled_rows,
        "columns": [
            {
                "name": each.column,
                "type": found.types[each.column],
                "kind": each.kind.name,
                "confidence": each.confidence,
                "match_share": each.share,
                "values_checked": each.checked,
                "by": list(each.by),
                "protected": str(found.protected[each.column]) if each.column in found.protected else None,
            }
            for each in found.findings
        ],
        "protect": dict(found.proposed),
        "unprotectable": list(found.unprotectable),
    }
