"""The one destination of files: a folder per stream, `<path>/<connector>/<stream>/`, and its manifest.

    _atlas_manifest.json       which files are live, their schema, the checkpoint, the ledger (see _manifest)
    atlas-<32 hex>.parquet     a data file, live only where the manifest names it
    .atlas-<32 hex>.parquet    one being written
    .atlas-<32 hex>.quarantine.jsonl    rows that were refused, where the manifest names it
    .atlas-lock                held by the process that loads; it ends with it

A commit syncs the new data files, gives them their names, syncs the new manifest beside the old one and then
renames it: that is the commit, and only afterwards are the files deleted that it no longer names. Whatever
instant a process dies at, the manifest is the old or the new one, and the next load sweeps what neither
names. Readers that go by the manifest see committed loads only. A reader that lists the folder sees the same
rows while no load is committing and none was killed; that weaker promise is all that a listing can give.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.connectors import naming
from atlas_etl.connectors.examined import folder
from atlas_etl.connectors.files import _query
from atlas_etl.connectors.files._failures import writing
from atlas_etl.connectors.files._folder import StreamFolder, place_of_root, read_manifest
from atlas_etl.connectors.files._format import Format
from atlas_etl.connectors.files._manifest import Manifest, Mark
from atlas_etl.connectors.files._parts import Sizes
from atlas_etl.connectors.files._quarantine import quarantined
from atlas_etl.connectors.files._reconcile import FileReconcileSession
from atlas_etl.connectors.files._session import FileLoadSession
from atlas_etl.connectors.files._store import Store
from atlas_etl.contracts import Answer
from atlas_etl.errors import DestinationError, OvertakenError
from atlas_etl.model import (
    Checkpoint,
    CommittedCheckpoint,
    ConnectionStatus,
    Disposition,
    Examination,
    Finding,
    LoadPlan,
    ReconcilePlan,
    Stream,
    TableName,
    TableState,
    WireFormat,
    merge_mark_of,
)
from atlas_etl.scratch import Scratch

_NAME_BYTES = 255  # of a file name (NAME_MAX of every common file system)


class FilesDestination:
    """Writes one format to one store (contracts.Destination).

    Folders are made with mode 0700 and files with 0600, or 0750 and 0640 where their group may read them.
    """

    def __init__(self, store: Store, form: Format, path: str, sizes: Sizes | None = None) -> None:
        self._store = store
        self._format = form
        self._path = path
        self._sizes = sizes or Sizes()
        self._scratch = Scratch()

    def test(self) -> ConnectionStatus:
        with writing(self._path):
            self._store.make_folder(self._path)
            probe = f"{self._path}/.atlas-{uuid4().hex}.test"
            file = self._store.create(probe)
            try:
                file.sink.write(b"atlas")
            finally:
                file.drop()
        return ConnectionStatus(f"{self._format.protocol} files can be written in {self._path}")

    def examine(self, examination: Examination) -> Iterator[Finding]:
        yield from folder("destination", Path(self._path), holds=self._held(examination))

    def table_name(self, connector: str, stream: Stream) -> TableName:
        into = stream.into or TableName(stream.name, connector)
        return TableName(_fitting(into.name), _fitting(into.schema or connector))

    def has_load(self, connector: str, stream: str, table: TableName, load_id: str) -> bool:
        manifest = self._folder(table).manifest()
        if manifest is None or not _is_of(manifest, connector, stream):
            return False
        later = takewhile(lambda load: load.disposition != Disposition.REPLACE, reversed(manifest.loads))
        return any(load.load_id.startswith(f"{load_id}/") for load in later)

    def changes(self, plan: LoadPlan) -> Sequence[str]:  # noqa: ARG002
        """Files of a stream may have different columns: none is changed for others."""
        return ()

    def caveats(self) -> Sequence[str]:
        return ()

    def takes(self, offered: WireFormat, plan: LoadPlan) -> bool:  # noqa: ARG002
        return False

    def place(self) -> str:
        return place_of_root(self._path)

    def storable(self, schema: pa.Schema, there: pa.Schema | None = None) -> pa.Schema:
        stored = [field.with_type(self._format.storable(field.type)).with_nullable(True) for field in schema]
        names = naming.in_table(
            [naming.shorten(name, None, size=len) for name in schema.names],
            there.names if there is not None else (),
            fold_case=True,
            where="the readers of its files",
        )
        return pa.schema([field.with_name(name) for field, name in zip(stored, names, strict=True)])

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        folder = self._folder(table)
        manifest = folder.manifest()
        if manifest is None:
            return TableState()
        if not _is_of(manifest, connector, stream):
            return TableState(manifest.schema, empty=manifest.rows == 0, version=manifest.generation)
        return TableState(
            manifest.schema,
            manifest.checkpoint,
            bool(manifest.loads),
            manifest.rows == 0,
            manifest.generation,
            quarantined(folder, manifest),
            manifest.protection,
            merge_mark=_merge_mark(manifest),
        )

    @contextmanager
    def snapshot(self, table: TableName) -> Iterator[FilesSnapshot]:
        folder = self._folder(table)
        yield FilesSnapshot(folder, folder.manifest())

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[FileLoadSession]:
        with self._opened(plan) as (folder, manifest):
            session = FileLoadSession(folder, plan, manifest, self._sizes, self._scratch)
            try:
                session.prepare()
                yield session
            finally:
                session.close()

    @contextmanager
    def reconcile(self, plan: ReconcilePlan) -> Iterator[FileReconcileSession]:
        with self._opened(plan) as (folder, manifest):
            if manifest is None:
                raise _no_table(plan.table, plan.stream)
            session = FileReconcileSession(folder, plan, manifest, self._sizes, self._scratch)
            try:
                yield session
            finally:
                session.close()

    def reconciled_at(self, connector: str, stream: str, table: TableName) -> datetime | None:
        manifest = self._folder(table).manifest()
        ours = manifest is not None and _is_of(manifest, connector, stream)
        return manifest.reconciled_at if manifest is not None and ours else None

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        return [
            CommittedCheckpoint(manifest.stream, mark.checkpoint, mark.committed_at, mark.run_id)
            for _, manifest in self._tables().values()
            if (mark := manifest.mark) is not None and manifest.connector == connector
        ]

    def set_checkpoint(
        self, connector: str, stream: str, table: TableName, checkpoint: Checkpoint | None
    ) -> None:
        folder = self._folder(table)
        if checkpoint is None and folder.manifest() is None:
            return
        with self._locked(folder):
            manifest = folder.manifest()
            if manifest is None or not _is_of(manifest, connector, stream):
                raise _no_table(table, stream)
            mark = Mark(checkpoint, datetime.now(UTC), "") if checkpoint is not None else None
            with writing(folder.path):
                folder.stage(replace(manifest, mark=mark, generation=manifest.generation + 1), ())
                folder.swap()
                folder.settle()

    def query(self, sql: str) -> pa.Table:
        with self.answer(sql) as answer:
            return pa.Table.from_batches(answer.batches, answer.schema)

    @contextmanager
    def answer(self, sql: str, as_text: Collection[str] = ()) -> Iterator[Answer]:  # noqa: ARG002
        """Rows of DuckDB's own types, of which Arrow has every value."""
        with _query.answered(sql, self._tables()) as answer:
            yield answer

    def close(self) -> None:
        self._scratch.close()

    def _held(self, examination: Examination) -> int:
        """The bytes of the largest of these streams' tables."""
        names = (self.table_name(examination.connector, stream) for stream in examination.streams)
        manifests = (self._folder(name).manifest() for name in names)
        return max((sum(file.bytes for file in each.files) for each in manifests if each), default=0)

    def _folder(self, table: TableName) -> StreamFolder:
        names = (_folder_name(table.schema or "main"), _folder_name(table.name))
        return StreamFolder(self._store, self._format, "/".join((self._path, *names)))

    @contextmanager
    def _opened(self, plan: LoadPlan | ReconcilePlan) -> Iterator[tuple[StreamFolder, Manifest | None]]:
        """The plan's folder, locked and swept, with the manifest that the plan was made from."""
        folder = self._folder(plan.table)
        with self._locked(folder):
            manifest = folder.manifest()
            if manifest is None:
                _refuse_foreign_files(folder, plan)
            elif not _is_of(manifest, plan.connector, plan.stream):
                raise DestinationError(
                    f"{folder.path} belongs to the stream {manifest.stream!r} of {manifest.connector!r}",
                    hint="files hold one stream each: choose another table with `into`",
                    code="table_not_ours",
                    stream=plan.stream,
                )
            if plan.version is not None and plan.version != (manifest.generation if manifest else 0):
                raise OvertakenError(plan.stream)
            with writing(folder.path):
                folder.sweep(manifest)
            yield folder, manifest

    @contextmanager
    def _locked(self, folder: StreamFolder) -> Iterator[None]:
        with ExitStack() as stack:
            with writing(folder.path):
                self._store.make_folder(folder.path)
                stack.enter_context(folder.lock())
            yield

    def _tables(self) -> dict[TableName, tuple[StreamFolder, Manifest]]:
        """Every table of this format here, by its name."""
        found: dict[TableName, tuple[StreamFolder, Manifest]] = {}
        schemas = self._store.folders(self._path) if self._store.is_folder(self._path) else []
        for schema in schemas:
            for name in self._store.folders(f"{self._path}/{schema}"):
                folder = StreamFolder(self._store, self._format, f"{self._path}/{schema}/{name}")
                manifest = read_manifest(self._store, folder.path)
                if manifest is not None and manifest.format == self._format.protocol:
                    found[manifest.table] = (folder, manifest)
        return found


class FilesSnapshot:
    """The files that one manifest names (contracts.TableSnapshot)."""

    def __init__(self, folder: StreamFolder, manifest: Manifest | None) -> None:
        self._folder = folder
        self._files = manifest.files if manifest else ()

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        return self._folder.read(self._files, schema)

    def text_forms(self, columns: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002
        return {}

    def checksums(self, columns: Sequence[str]) -> None:
        """Files compute nothing by themselves."""


def _is_of(manifest: Manifest, connector: str, stream: str) -> bool:
    return (manifest.connector, manifest.stream) == (connector, stream)


def _merge_mark(manifest: Manifest) -> str | None:
    """That of the last load by a key, unless one without a key replaced the rows since."""
    for load in reversed(manifest.loads):
        mark = merge_mark_of(load.load_id)
        if mark is not None or load.disposition == Disposition.REPLACE:
            return mark
    return None


def _no_table(table: TableName, stream: str) -> DestinationError:
    return DestinationError(
        f"there is no table {table} of this stream",
        hint="sync the stream first",
        code="table_not_found",
        stream=stream,
    )


def _refuse_foreign_files(folder: StreamFolder, plan: LoadPlan | ReconcilePlan) -> None:
    """Readers of the folder would mix files that are not Atlas's with the stream's."""
    foreign = folder.foreign_files()
    if foreign:
        raise DestinationError(
            f"{folder.path} already holds files that Atlas did not write, such as {foreign[0]!r}",
            hint="choose another `path` or table, or move them away",
            code="table_not_ours",
            stream=plan.stream,
        )


def _fitting(name: str) -> str:
    return naming.shorten(name, _NAME_BYTES, size=lambda text: len(_folder_name(text).encode()))


def _folder_name(name: str) -> str:
    """A name as one visible folder's: `/`, `%`, NUL and a leading dot or underscore are percent-encoded."""
    safe = "".join(f"%{ord(c):02X}" if c in "/\\%\0" else c for c in name)
    return f"%{ord(safe[0]):02X}{safe[1:]}" if safe[:1] in (".", "_") else safe
