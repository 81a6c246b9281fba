"""Deletes at the source, in files: those that hold a row whose key is gone are written again, and no others.

The source's keys are held as a merge's are, in a database that spills to disk; one manifest is the commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from atlas_etl.connectors.deletes import refuse_null_keys, refuse_too_many, whole_keys, with_null
from atlas_etl.connectors.files._failures import writing
from atlas_etl.connectors.files._folder import StreamFolder
from atlas_etl.connectors.files._manifest import LEDGER_LENGTH, DataFile, Load, Manifest
from atlas_etl.connectors.files._merge import Compared, KeySet
from atlas_etl.connectors.files._parts import Sizes
from atlas_etl.connectors.files._transaction import FilesTransaction
from atlas_etl.model import DELETED_AT, Deletion, ReconcilePlan, ReconcileResult
from atlas_etl.scratch import Scratch

_Mask = npt.NDArray[np.bool_]


class FileReconcileSession:
    """One comparison (contracts.ReconcileSession); `close` undoes it unless it was committed."""

    def __init__(
        self, folder: StreamFolder, plan: ReconcilePlan, manifest: Manifest, sizes: Sizes, scratch: Scratch
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._before = manifest
        self._schema = manifest.schema
        self._transaction = FilesTransaction(
            folder, manifest, self._schema, schema_version=manifest.schema_version, sizes=sizes
        )
        self._is_soft = plan.deletes.how is Deletion.SOFT
        self._keys = KeySet(scratch, plan.stream, plan.keys.names, None, plan.keys)
        self._count = 0
        self._left_out = 0

    def write(self, batch: pa.RecordBatch) -> None:
        keys = whole_keys(self._plan, batch)
        self._keys.add(keys)
        self._count += batch.num_rows
        self._left_out += batch.num_rows - keys.num_rows

    def commit(self) -> ReconcileResult:
        plan, before = self._plan, self._before
        with writing(self._folder.path):
            if self._left_out:
                refuse_null_keys(plan, self._nulls())
            found = self._keys.compared(self._rows(), DELETED_AT if plan.has_marks else None)
            live = before.rows - int(np.sum(found.marked))
            deleted = int(np.sum(found.gone & ~found.marked))
            restored = int(np.sum(found.marked & ~found.gone))
            refuse_too_many(plan, keys=self._count, gone=deleted, live=live)
            files = self._transaction.with_schema(list(self._changed(found)), None)
            load = Load(str(uuid4()), plan.run_id, "deletes", deleted, datetime.now(UTC))
            manifest = replace(
                before,
                generation=before.generation + 1,
                files=tuple(files),
                loads=(*before.loads, load)[-LEDGER_LENGTH:],
                reconciled_at=plan.at,
            )
            self._transaction.commit(manifest)
        return ReconcileResult(deleted, live - deleted + restored, self._left_out)

    def close(self) -> None:
        """Give everything back; deletes every file of a comparison that was not committed."""
        self._keys.close()
        self._transaction.close()

    def _rows(self) -> Iterator[pa.RecordBatch]:
        """Keys and marks of every live row, in the order of the live files."""
        names = [*self._plan.keys.names, *([DELETED_AT] if self._plan.has_marks else [])]
        yield from self._folder.read(self._before.files, pa.schema([self._schema.field(n) for n in names]))

    def _nulls(self) -> int:
        """How many live rows have a NULL in their key."""
        found = (with_null(rows.select(self._plan.keys.names)) for rows in self._rows())
        return sum(nulls.true_count for nulls in found if nulls is not None)

    def _changed(self, found: Compared) -> Iterator[DataFile]:
        """The live files, those written again that hold a row that changes."""
        changes = found.gone != found.marked if self._is_soft else np.ones_like(found.gone)
        rows, gone = found.rows[changes], found.gone[changes]
        first = 0
        for file in self._before.files:
            mine = slice(*np.searchsorted(rows, (first, first + file.rows)))
            if mine.start == mine.stop:
                yield file
            else:
                yield from self._written_again(file, rows[mine] - first, gone[mine])
            first += file.rows

    def _written_again(self, file: DataFile, rows: npt.NDArray[np.int64], gone: _Mask) -> Iterator[DataFile]:
        """The file without these rows that are gone, or with their marks; the others lose theirs."""
        changes, deletes = np.zeros(file.rows, dtype=bool), np.zeros(file.rows, dtype=bool)
        changes[rows], deletes[rows] = True, gone
        parts, start = self._transaction.parts(file.cursor), 0
        for batch in self._folder.read([file], self._schema):
            piece = slice(start, start + batch.num_rows)
            kept = batch
            if self._plan.has_marks:
                kept = self._marked(kept, pa.array(changes[piece]), pa.array(deletes[piece]))
            if not self._is_soft:
                kept = kept.filter(pa.array(~deletes[piece]))
            parts.write(kept)
            start = piece.stop
        parts.end_file()
        for written in parts.files:
            yield replace(written, tail=file.tail)

    def _marked(self, batch: pa.RecordBatch, changes: pa.Array, deletes: pa.Array) -> pa.RecordBatch:
        index = batch.schema.get_field_index(DELETED_AT)
        field = batch.schema.field(index)
        at, none = pa.scalar(self._plan.at, field.type), pa.scalar(None, field.type)
        marks = pc.if_else(changes, pc.if_else(deletes, at, none), batch.column(index))
        return batch.set_column(index, field, marks)
