"""A line of `_atlas_checkpoints`: its columns, all of them text, and the checkpoint that they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from atlas_etl.connectors.sql._dialect import WriterDialect
from atlas_etl.connectors.sql._ledger_lines import KEY
from atlas_etl.connectors.sql._own_rows import read, reading_own, text
from atlas_etl.model import Checkpoint, CommittedCheckpoint, CursorKind, CursorValue, ParentBound, Watermark

CHECKPOINTS = "_atlas_checkpoints"
_CHECKPOINT_COLUMNS = (
    "cursor_column", "cursor_kind", "high", "tail_from", "tail_values", "watermarks", "parents",
    "protection", "run_id", "committed_at",
)  # fmt: skip
NO_CHECKPOINT: Mapping[str, str | None] = {
    column: None for column in _CHECKPOINT_COLUMNS if column != "protection"
}
STREAM_COLUMNS = (*KEY, "table_name", "version", "writer", *_CHECKPOINT_COLUMNS)
_WATERMARKS = msgspec.json.Decoder(tuple[Watermark, ...])
_PARENTS = msgspec.json.Decoder(tuple[ParentBound, ...] | None)
_SPELLINGS = msgspec.json.Decoder(tuple[str, ...])


def line_of(dialect: WriterDialect, row: Sequence[object]) -> Mapping[str, object]:
    """A line of `_atlas_checkpoints`."""
    return dict(zip(STREAM_COLUMNS, (read(dialect, cell) for cell in row), strict=True))


def cells_of(checkpoint: Checkpoint, run_id: str) -> dict[str, str | None]:
    cells = (
        checkpoint.cursor, checkpoint.high.kind.value, checkpoint.high.text, checkpoint.tail_from.text,
        json.dumps(checkpoint.tail_values), msgspec.json.encode(checkpoint.watermarks).decode(),
        msgspec.json.encode(checkpoint.parents).decode(), checkpoint.protection, run_id,
        datetime.now(UTC).isoformat(),
    )  # fmt: skip
    return dict(zip(_CHECKPOINT_COLUMNS, cells, strict=True))


def checkpoint_of(line: Mapping[str, object]) -> CommittedCheckpoint | None:
    if line["cursor_column"] is None:
        return None
    with reading_own(CHECKPOINTS, str(line["stream"])):
        texts = {name: text(line[name]) for name in _CHECKPOINT_COLUMNS}
        kind = CursorKind(texts["cursor_kind"])
        checkpoint = Checkpoint(
            texts["cursor_column"],
            CursorValue(kind, texts["high"]),
            CursorValue(kind, texts["tail_from"]),
            _SPELLINGS.decode(texts["tail_values"]),
            _WATERMARKS.decode(texts["watermarks"]),
            _PARENTS.decode(texts["parents"]),
            texts["protection"],
        )
        committed_at = datetime.fromisoformat(texts["committed_at"])
        return CommittedCheckpoint(str(line["stream"]), checkpoint, committed_at, texts["run_id"])


def version_of(line: Mapping[str, object]) -> int:
    with reading_own(CHECKPOINTS, str(line["stream"])):
        return int(text(line["version"]))
