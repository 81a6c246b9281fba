"""Looking closely at files: whether they can be read, are still being written, and what their rows lack."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from atlas_etl.connectors.examined import failed, no_key
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._format import Format
from atlas_etl.connectors.files._select import Selection, select
from atlas_etl.connectors.files._store import Store
from atlas_etl.errors import AtlasError
from atlas_etl.model import Examination, Finding, Severity, Stream

_OPENED = 1000  # files of a stream that are opened at most
_SETTLED = timedelta(seconds=60)  # whoever writes a file has mostly gone on after this long


def examined(store: Store, form: Format, root: str, examination: Examination) -> Iterator[Finding]:
    """What the files of each stream tell without being read."""
    for stream in examination.streams:
        try:
            selection = select(store, form, root, stream)
        except AtlasError as failure:
            yield failed("files", stream.name, failure)
            continue
        yield _readable(store, stream, selection)
        yield _settled(stream, selection)
        if not stream.primary_key:
            yield no_key(stream)
        if stream.cursor is not None:
            size = sum(file.size for file in selection.files)
            yield Finding(
                "cursor_index",
                f"{stream.name}.{stream.cursor}",
                Severity.NOTE,
                f"files have no index: each sync reads all {size:,} bytes",
            )


def _readable(store: Store, stream: Stream, selection: Selection) -> Finding:
    looked = selection.files[:_OPENED]
    for file in looked:
        try:
            with reading(file.path), store.open(file.path) as opened:
                opened.read(1)
        except AtlasError as failure:
            return failed("files", stream.name, failure)
    more = "" if len(looked) == len(selection.files) else f" (of {len(selection.files):,})"
    return Finding("files", stream.name, Severity.OK, f"{len(looked):,} file(s){more} can be read")


def _settled(stream: Stream, selection: Selection) -> Finding:
    newest = max(selection.files, key=lambda file: file.version[0], default=None)
    if newest is None or selection.manifest is not None:
        return Finding("files_settled", stream.name, Severity.OK, "what is read is committed by Atlas")
    age = datetime.now(UTC) - datetime.fromtimestamp(newest.version[0] / 1e9, UTC)
    if age > _SETTLED:
        return Finding("files_settled", stream.name, Severity.OK, "no file was changed in the last minute")
    return Finding(
        "files_settled",
        stream.name,
        Severity.NOTE,
        f"{newest.path} was changed {max(0, round(age.total_seconds()))} s ago: a file that is read while "
        "it is written is refused, or ends early",
        "mv orders.csv.part orders.csv    # write beside the pattern, then give the file its name",
    )
