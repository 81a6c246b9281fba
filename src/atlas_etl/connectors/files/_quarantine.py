"""The rows that a stream's files do not have: JSON lines in a hidden file beside the manifest that names it.

A load that changes them writes a new file, which counts as soon as the manifest does. Its name begins with a
dot, so that no reader of the folder takes it for data.
"""

from __future__ import annotations

from operator import attrgetter
from uuid import uuid4

import msgspec

from atlas_etl.connectors.files._failures import writing
from atlas_etl.connectors.files._folder import StreamFolder
from atlas_etl.connectors.files._manifest import Manifest
from atlas_etl.errors import DestinationError
from atlas_etl.model import QuarantineChange, QuarantinedRow

_ROW = msgspec.json.Decoder(QuarantinedRow)


def quarantined(folder: StreamFolder, manifest: Manifest | None) -> tuple[QuarantinedRow, ...]:
    """Every row. Raises DestinationError (`missing_file`, `damaged_file`)."""
    if manifest is None or manifest.quarantine is None:
        return ()
    try:
        rows = map(_ROW.decode, folder.content(manifest.quarantine).splitlines())
        return tuple(sorted(rows, key=attrgetter("order")))
    except msgspec.DecodeError as failure:
        raise DestinationError(
            f"{folder.path}/{manifest.quarantine} is damaged: it holds rows that were refused",
            hint="restore it, or remove the stream's folder to load everything again",
            code="damaged_file",
        ) from failure


def changed(folder: StreamFolder, manifest: Manifest | None, change: QuarantineChange) -> str | None:
    """The file's name after this change, written where it has to be; None without rows. Raises OSError."""
    before = manifest.quarantine if manifest else None
    if not (change.leave or change.come):
        return before
    rows = {row.quarantine_id: row for row in quarantined(folder, manifest)}
    rows = {id_: row for id_, row in rows.items() if id_ not in change.leave}
    rows |= {row.quarantine_id: row for row in change.come}
    if not rows:
        return None
    name = f".atlas-{uuid4().hex}.quarantine.jsonl"
    with writing(folder.path):
        file = folder.store.create(f"{folder.path}/{name}")
        try:
            for row in rows.values():
                file.sink.write(msgspec.json.encode(row) + b"\n")
        except BaseException:
            file.drop()
            raise
        file.keep()
    return name
