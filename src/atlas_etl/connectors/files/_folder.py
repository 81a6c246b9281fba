"""One stream's folder: its manifest, its live data files, and the one rename that commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress

import pyarrow as pa
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.files._codec import uncompressed_name
from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._format import Format
from atlas_etl.connectors.files._manifest import MANIFEST, DataFile, Manifest, decode, encode
from atlas_etl.connectors.files._parts import aside, is_own_name
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.errors import DestinationError, SourceError

_LOCK = ".atlas-lock"
_MANIFEST_ASIDE = ".atlas-manifest.tmp"


def read_manifest(store: Store, path: str) -> Manifest | None:
    """The manifest of a folder, or None. Raises DestinationError (`corrupt_manifest`) and SourceError."""
    file = f"{path}/{MANIFEST}"
    if store.stat(file) is None:
        return None
    with reading(file), store.open(file) as opened:
        content = opened.read()
    return decode(content, file)


def place_of_root(path: str) -> str:
    """What the tables of a destination's folder are in (contracts.Destination.place)."""
    return f"files {path.rstrip('/')}"


class StreamFolder(Struct, frozen=True):
    """The folder that one stream lands in."""

    store: Store
    format: Format
    path: str

    def manifest(self) -> Manifest | None:
        """What was committed, after a look at whether it is all still there.

        Raises DestinationError (`corrupt_manifest`, `other_format`, `missing_file`).
        """
        try:
            manifest = read_manifest(self.store, self.path)
        except SourceError as failure:
            raise _unreadable(failure) from failure
        if manifest is None:
            return None
        if manifest.format != self.format.protocol:
            raise DestinationError(
                f"{self.path} holds {manifest.format} files, not {self.format.protocol}",
                hint="choose another `path`, or remove the folder to load everything again",
                code="other_format",
            )
        self.check(manifest)
        return manifest

    def check(self, manifest: Manifest) -> None:
        """Raise DestinationError (`missing_file`) where a live file is not as it was written."""
        for file in manifest.files:
            found = self.store.stat(f"{self.path}/{file.name}")
            if found is None or found.size != file.bytes:
                how = "missing" if found is None else "not as it was written"
                raise _missing(f"{self.path}/{file.name}", how)

    def lock(self) -> AbstractContextManager[None]:
        """The right to write here, until the block is left or the process dies. Raises LockedError."""
        return self.store.lock(f"{self.path}/{_LOCK}")

    def read(
        self, files: Iterable[DataFile], schema: pa.Schema, *, still_aside: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows of data files, in order. Raises DestinationError (`damaged_file`)."""
        for file in files:
            path = f"{self.path}/{aside(file.name) if still_aside else file.name}"
            try:
                with reading(path):
                    stored = StoredFile(path, file.bytes, ())
                    yield from self.format.batches(self.store, stored, Wanted(schema))
            except SourceError as failure:
                raise _unreadable(failure) from failure

    def content(self, name: str) -> bytes:
        """A small file that the manifest names. Raises DestinationError (`missing_file`, `damaged_file`)."""
        path = f"{self.path}/{name}"
        if self.store.stat(path) is None:
            raise _missing(path, "missing")
        try:
            with reading(path), self.store.open(path) as opened:
                return bytes(opened.read())
        except SourceError as failure:
            raise _unreadable(failure) from failure

    def pattern(self, file: DataFile) -> str:
        """A live file's path for readers that take their paths for globs."""
        return escaped(f"{self.path}/{file.name}")

    def sweep(self, manifest: Manifest | None) -> None:
        """Delete what loads that never committed left behind; only files with names that Atlas gives."""
        keep = manifest.names if manifest else frozenset()
        for pattern in (".atlas-*", "atlas-*"):
            for file in self.store.find(f"{escaped(self.path)}/{pattern}"):
                name = file.path.rpartition("/")[2]
                if is_own_name(name) and name not in keep:
                    self.store.delete(file.path)

    def foreign_files(self) -> list[str]:
        """Files of this format that Atlas did not write: readers of the folder would mix them in."""
        found = self.store.find(f"{escaped(self.path)}/*")
        names = (file.path.rpartition("/")[2] for file in found)
        return [n for n in names if uncompressed_name(n).endswith(self.format.endings) and not is_own_name(n)]

    def stage(self, manifest: Manifest, new: Iterable[DataFile]) -> None:
        """Put everything on disk that the commit needs, the new manifest beside the one that is there."""
        for file in new:
            self.store.rename(f"{self.path}/{aside(file.name)}", f"{self.path}/{file.name}")
        temporary = f"{self.path}/{_MANIFEST_ASIDE}"
        self.store.delete(temporary)
        written = self.store.create(temporary)
        try:
            written.sink.write(encode(manifest))
        except BaseException:
            written.drop()
            raise
        written.keep()
        self.store.settle(self.path)

    def swap(self) -> None:
        """The commit: the staged manifest takes the place of the one that is there."""
        self.store.rename(f"{self.path}/{_MANIFEST_ASIDE}", f"{self.path}/{MANIFEST}")

    def settle(self) -> None:
        """Make the commit last."""
        self.store.settle(self.path)

    def remove(self, dead: Iterable[str]) -> None:
        """Delete files that the manifest no longer names; what stays is swept by the next load."""
        for name in dead:
            with suppress(OSError):
                self.store.delete(f"{self.path}/{name}")

    def discard(self, files: Iterable[DataFile]) -> None:
        """Delete files that did not make it into a manifest, under either of their names."""
        for file in files:
            for name in (aside(file.name), file.name):
                with suppress(OSError):
                    self.store.delete(f"{self.path}/{name}")


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in these columns and types, by name; NULL where it lacks one."""
    columns = [
        values.convert(batch.column(field.name), field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def escaped(path: str) -> str:
    """A path in which no character is a wildcard of a glob."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)


def _missing(path: str, how: str) -> DestinationError:
    return DestinationError(
        f"{path} is {how}",
        hint="restore it, or remove the stream's folder to load everything again",
        code="missing_file",
    )


def _unreadable(failure: SourceError) -> DestinationError:
    return DestinationError(
        failure.message, hint=failure.hint, code="damaged_file", retryable=failure.retryable
    )
