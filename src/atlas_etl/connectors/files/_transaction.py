"""One transaction on a stream's folder: its new files, which either a manifest makes true or nobody keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from atlas_etl.connectors.files._folder import StreamFolder
from atlas_etl.connectors.files._manifest import DataFile, Manifest
from atlas_etl.connectors.files._parts import Parts, Sizes
from atlas_etl.connectors.files._quarantine import changed
from atlas_etl.model import QuarantineChange


class FilesTransaction:
    """Owns the files that are written over a manifest, until `commit`; `close` undoes it otherwise."""

    def __init__(
        self,
        folder: StreamFolder,
        before: Manifest | None,
        schema: pa.Schema,
        *,
        schema_version: int,
        sizes: Sizes,
    ) -> None:
        self._folder = folder
        self._before = before
        self._names = before.names if before else frozenset()
        self._schema = schema
        self._version = schema_version
        self._sizes = sizes
        self._written: list[Parts] = []
        self._quarantine: str | None = None  # its file
        self._is_committed = False

    def parts(self, cursor: str | None) -> Parts:
        """A new sequence of data files, with the edges of this column."""
        folder = self._folder
        self._written.append(
            Parts(
                folder.store,
                folder.format,
                folder.path,
                self._schema,
                schema_version=self._version,
                cursor=cursor,
                sizes=self._sizes,
            )
        )
        return self._written[-1]

    def is_new(self, file: DataFile) -> bool:
        """Whether it was written here, and so is aside until the commit."""
        return file.name not in self._names

    def read(self, files: Iterable[DataFile]) -> Iterator[pa.RecordBatch]:
        """The rows of old and new files, in order. Raises DestinationError (`damaged_file`)."""
        for file in files:
            yield from self._folder.read([file], self._schema, still_aside=self.is_new(file))

    def with_schema(self, files: list[DataFile], cursor: str | None) -> list[DataFile]:
        """The files, and one without rows where none has all columns: readers find them there."""
        if any(file.schema_version == self._version for file in files):
            return files
        empty = self.parts(cursor)
        empty.write_empty()
        return files + empty.files

    def quarantine(self, change: QuarantineChange) -> str | None:
        """The name of the file of refused rows after this change; None without rows. Raises OSError."""
        self._quarantine = changed(self._folder, self._before, change)
        return self._quarantine

    def commit(self, manifest: Manifest) -> None:
        """Make the manifest true, and delete the files that it no longer names. Raises OSError."""
        self._folder.stage(manifest, filter(self.is_new, manifest.files))
        self._is_committed = True  # from here on it may be: no new file may be deleted any more
        try:
            self._folder.swap()
        except OSError:
            self._is_committed = False
            raise
        self._folder.settle()
        self._folder.remove(self._names - manifest.names)

    def close(self) -> None:
        """Give everything back; deletes every new file where nothing was committed."""
        for parts in self._written:
            parts.drop()
            if not self._is_committed:
                self._folder.discard(parts.files)
        if not self._is_committed and self._quarantine is not None:
            self._folder.remove({self._quarantine} - self._names)
