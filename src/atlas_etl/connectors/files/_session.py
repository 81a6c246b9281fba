"""One load into a folder of files: new files aside, and one manifest that makes them true.

- `append`: the files of the previous tail are dropped, whole; a file that holds rows of the tail among
  others (its edges in the manifest tell) is written again without them. New rows are cut at the
  checkpoint's tail, so that the next load finds the tail in files of its own and the body is never
  written again.
- `merge`: files that hold a key of the load are written again without it; the others are not touched.
- `replace`: only the new files are live; by key, without the rows that a later one supersedes.
- A widened column writes the live files again; an added one does not: readers give NULL where a file
  lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from atlas_etl.connectors.files._evolve import evolved
from atlas_etl.connectors.files._failures import writing
from atlas_etl.connectors.files._folder import StreamFolder, fitted
from atlas_etl.connectors.files._manifest import LEDGER_LENGTH, DataFile, Load, Manifest, Mark, schema_fields
from atlas_etl.connectors.files._merge import KeySet, Rows
from atlas_etl.connectors.files._order import Share, Tail
from atlas_etl.connectors.files._parts import Parts, Sizes
from atlas_etl.connectors.files._tail import TailBuffer
from atlas_etl.connectors.files._transaction import FilesTransaction
from atlas_etl.contracts import NO_CHANGE
from atlas_etl.errors import RefusedRowError, SchemaChangeError
from atlas_etl.model import (
    Checkpoint,
    Disposition,
    DropTable,
    LoadPlan,
    LoadResult,
    QuarantineChange,
    WidenColumn,
)
from atlas_etl.scratch import Scratch


class FileLoadSession:
    """One load (contracts.LoadSession); `close` undoes it unless it was committed."""

    def __init__(
        self,
        folder: StreamFolder,
        plan: LoadPlan,
        manifest: Manifest | None,
        sizes: Sizes,
        scratch: Scratch,
    ) -> None:
        self._sizes = sizes
        self._scratch = scratch
        self._folder = folder
        self._plan = plan
        self._before = manifest
        self._schema = evolved(manifest, plan)
        self._before_schema = manifest.schema if manifest else self._schema
        changed = manifest is None or not self._before_schema.equals(self._schema, check_metadata=True)
        self._version = (manifest.schema_version if manifest else 0) + int(changed)
        self._transaction = FilesTransaction(
            folder, manifest, self._schema, schema_version=self._version, sizes=sizes
        )
        self._rows = self._replayed = 0
        self._live: list[DataFile] = []  # of before, or written again since, without what goes
        self._keys: KeySet | None = None
        self._buffer: TailBuffer | None = None
        self._new = self._parts()

    def prepare(self) -> None:
        """Take out of the live files what this load replaces, and convert what it widens."""
        plan = self._plan
        if plan.merges:
            self._keys = KeySet(self._scratch, plan.stream, plan.primary_key, plan.cursor, self._schema)
        elif plan.cursor is not None:
            self._buffer = TailBuffer(
                plan.cursor, self._new.write, size=self._sizes.tail, next_tail=plan.next_tail
            )
        dropped = any(isinstance(change, DropTable) for change in plan.changes)
        if self._before is None or plan.disposition is Disposition.REPLACE or dropped:
            return
        tail = None
        if plan.disposition is Disposition.APPEND and plan.tail is not None:
            kind = self._schema.field(plan.cursor).type
            tail = Tail(plan.tail, kind, with_nulls=plan.tail_has_nulls)
        widened = any(isinstance(change, WidenColumn) for change in plan.changes)
        with writing(self._folder.path):
            for file in self._before.files:
                share = Share.NONE if tail is None else self._share(file, tail)
                if share is Share.ALL:
                    self._replayed += file.rows
                elif share is Share.NONE and not widened:
                    self._live.append(file)
                else:
                    self._live += self._without_tail(file, tail)

    def write(self, batch: pa.RecordBatch) -> Mapping[int, RefusedRowError]:
        batch = fitted(batch, self._schema)
        self._rows += batch.num_rows
        if self._keys is not None:
            self._keys.add(batch)
        with writing(self._folder.path):
            (self._buffer or self._new).write(batch)
        return {}  # files have no rules of their own

    def delete(self, keys: pa.RecordBatch) -> None:
        if self._keys is not None:
            self._keys.forget(keys)

    def commit(self, checkpoint: Checkpoint | None, quarantine: QuarantineChange = NO_CHANGE) -> LoadResult:
        with writing(self._folder.path):
            rows = self._merge(self._keys) if self._keys else max(0, self._rows - self._replayed)
            files = self._compacted(self._finished(checkpoint))
            refused = self._transaction.quarantine(quarantine)
            manifest = self._manifest(files, checkpoint, rows, quarantine=refused)
            self._transaction.commit(manifest)
        return LoadResult(rows, manifest.loads[-1].committed_at)

    def close(self) -> None:
        """Give everything back; deletes every file of a load that was not committed."""
        if self._keys is not None:
            self._keys.close()
        self._transaction.close()

    def _parts(self) -> Parts:
        return self._transaction.parts(self._plan.cursor)

    def _share(self, file: DataFile, tail: Tail) -> Share:
        return tail.share(file.low, file.high, file.nulls) if file.cursor == self._plan.cursor else Share.SOME

    def _without_tail(self, file: DataFile, tail: Tail | None) -> Sequence[DataFile]:
        """The file's rows in the schema of now, in files of their own."""
        parts = self._parts()
        for old in self._folder.read([file], self._before_schema):
            batch = fitted(old, self._schema)
            if tail is not None:
                inside = tail.mask(batch.column(self._plan.cursor))
                self._replayed += pc.sum(inside).as_py() or 0
                batch = batch.filter(pc.invert(inside))
            parts.write(batch)
        parts.end_file()
        return parts.files

    def _finished(self, checkpoint: Checkpoint | None) -> list[DataFile]:
        """Every live file after this load; no new one holds both rows of the new tail and others."""
        kept = self._buffer.drain() if self._buffer else []
        tail = self._tail_of(checkpoint)
        if tail is None:
            for batch in kept:
                self._new.write(batch)
            self._new.end_file()
            return self._transaction.with_schema(self._live + self._new.files, self._plan.cursor)
        newest = self._parts()
        for batch in kept:
            self._divide(batch, tail, self._new, newest)
        self._new.end_file()
        mixed = [file for file in self._new.files if self._share(file, tail) is Share.SOME]
        older = self._parts()
        for batch in self._transaction.read(mixed):
            self._divide(batch, tail, older, newest)
        for parts in (older, newest):
            parts.end_file()
        self._folder.discard(mixed)
        whole = [file for file in self._new.files if file not in mixed]
        files = [*self._live, *whole, *older.files, *newest.files]
        files = self._transaction.with_schema(files, self._plan.cursor)
        return [replace(file, tail=self._share(file, tail) is Share.ALL) for file in files]

    def _tail_of(self, checkpoint: Checkpoint | None) -> Tail | None:
        if checkpoint is None or self._plan.cursor is None or self._keys is not None:
            return None
        kind = self._schema.field(self._plan.cursor).type
        try:
            return Tail(checkpoint, kind, with_nulls=self._plan.tail_has_nulls)
        except SchemaChangeError:
            # The column was given a zone on the way: only the next load knows where the tail begins in it.
            return None

    def _divide(self, batch: pa.RecordBatch, tail: Tail, older: Parts, newest: Parts) -> None:
        inside = tail.mask(batch.column(self._plan.cursor))
        older.write(batch.filter(pc.invert(inside)))
        newest.write(batch.filter(inside))

    def _merge(self, keys: KeySet) -> int:
        """Leave out what the load replaces; gives back how many of its rows add or change something."""
        self._new.end_file()
        superseded = keys.superseded()
        if len(superseded):
            self._new.files = self._without_rows(self._new.files, superseded)
        gone, added = keys.replaced(self._transaction.read(self._live))
        if len(gone):
            self._live = self._without_rows(self._live, gone)
        return added

    def _without_rows(self, files: Sequence[DataFile], rows: Rows) -> list[DataFile]:
        """These files without some rows, numbered over all of them; a file that loses none stays as it is."""
        kept: list[DataFile] = []
        first = 0
        for file in files:
            gone = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + file.rows)] - first
            first += file.rows
            if not len(gone):
                kept.append(file)
                continue
            mask = np.ones(file.rows, dtype=bool)
            mask[gone] = False
            parts, start = self._parts(), 0
            for batch in self._transaction.read([file]):
                parts.write(batch.filter(pa.array(mask[start : start + batch.num_rows])))
                start += batch.num_rows
            parts.end_file()
            kept += parts.files
            if self._transaction.is_new(file):
                self._folder.discard([file])
        return kept

    def _compacted(self, files: list[DataFile]) -> list[DataFile]:
        """The files, small ones of the body made one where there are many."""
        small = [
            f for f in files if f.bytes < self._sizes.small and not (f.tail or self._transaction.is_new(f))
        ]
        if len(small) < self._sizes.many:
            return files
        parts = self._parts()
        for batch in self._transaction.read(small):
            parts.write(batch)
        parts.end_file()
        return [*parts.files, *(file for file in files if file not in small)]

    def _manifest(
        self, files: Sequence[DataFile], checkpoint: Checkpoint | None, rows: int, *, quarantine: str | None
    ) -> Manifest:
        plan, before, now = self._plan, self._before, datetime.now(UTC)
        mark = before.mark if before and plan.disposition is not Disposition.REPLACE else None
        if checkpoint is not None:
            mark = Mark(checkpoint, now, plan.run_id)
        loads = (
            *(before.loads if before else ()),
            Load(plan.load_id, plan.run_id, plan.disposition, rows, now),
        )
        columns, arrow_schema = schema_fields(self._schema)
        return Manifest(
            format=self._folder.format.protocol,
            connector=plan.connector,
            stream=plan.stream,
            table=plan.table,
            generation=before.generation + 1 if before else 1,
            files=tuple(files),
            mark=mark,
            loads=loads[-LEDGER_LENGTH:],
            schema_version=self._version,
            columns=columns,
            arrow_schema=arrow_schema,
            reconciled_at=before.reconciled_at if before else None,
            quarantine=quarantine,
            protection=self._protection(checkpoint),
        )

    def _protection(self, checkpoint: Checkpoint | None) -> str | None:
        if checkpoint is not None:
            return checkpoint.protection
        kept = self._before.protection if self._before else None
        if self._plan.disposition is Disposition.REPLACE:
            return self._plan.protection
        return (
            kept if self._plan.cursor is not None or self._plan.protection is None else self._plan.protection
        )
