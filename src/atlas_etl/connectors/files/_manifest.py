"""The manifest of one stream's folder: which files are live, their schema, the checkpoint and the ledger.

`_atlas_manifest.json` is replaced in one rename, and that rename is the commit of a load: a data file that
it does not name does not count. `columns` is for people; `arrow_schema` (base64 of an Arrow IPC schema
message) is exact.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from datetime import datetime
from typing import Literal

import msgspec
import pyarrow as pa
from msgspec import Struct

from atlas_etl import values
from atlas_etl.errors import DestinationError
from atlas_etl.model import Checkpoint, TableName

MANIFEST = "_atlas_manifest.json"
LEDGER_LENGTH = 100  # loads that a manifest remembers


class DataFile(Struct, frozen=True):
    """A live file. `low` and `high` are the edges of the cursor column in it, as cursor text."""

    name: str
    rows: int
    bytes: int
    schema_version: int
    tail: bool = False  # every row was in the tail of the checkpoint that it was last compared with
    cursor: str | None = None
    low: str | None = None
    high: str | None = None
    nulls: int = 0  # rows without a cursor


class Load(Struct, frozen=True):
    """One line of the ledger."""

    load_id: str
    run_id: str
    disposition: str  # of Disposition, or "deletes"
    rows: int
    committed_at: datetime


class Mark(Struct, frozen=True):
    """A checkpoint, and the load or the person (an empty `run_id`) that set it."""

    checkpoint: Checkpoint
    committed_at: datetime
    run_id: str


class Manifest(Struct, frozen=True):
    """What one commit made true."""

    format: str
    connector: str
    stream: str
    table: TableName
    generation: int
    files: tuple[DataFile, ...]
    mark: Mark | None
    loads: tuple[Load, ...]  # the latest last
    schema_version: int
    columns: dict[str, str]
    arrow_schema: str
    reconciled_at: datetime | None = None  # when the source was last looked at for deletes
    quarantine: str | None = None  # the file of the rows that were refused
    protection: str | None = None  # of the rows; None: not known
    atlas_manifest: Literal[1] = 1

    @property
    def schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(b64decode(self.arrow_schema, validate=True)))

    @property
    def names(self) -> frozenset[str]:
        """Every file that it names."""
        data = frozenset(file.name for file in self.files)
        return data | {self.quarantine} if self.quarantine else data

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.mark.checkpoint if self.mark else None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


_DECODER = msgspec.json.Decoder(Manifest)


def schema_fields(schema: pa.Schema) -> tuple[dict[str, str], str]:
    """A schema as a manifest's `columns` and `arrow_schema`."""
    columns = {field.name: values.type_name(field.type) for field in schema}
    return columns, b64encode(schema.serialize().to_pybytes()).decode()


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(content: bytes, path: str) -> Manifest:
    """The manifest in these bytes. Raises DestinationError (`corrupt_manifest`): never "there is none"."""
    try:
        manifest = _DECODER.decode(content)
        manifest.schema  # noqa: B018 (decoding it is the check)
        if any("/" in name or name in ("", ".", "..") for name in manifest.names):
            raise ValueError("a file of another folder")
    except (Base64Error, ValueError, pa.ArrowException, OSError) as failure:
        raise DestinationError(
            f"{path} is damaged: it does not say which files are live",
            hint="restore it from a backup, or remove the stream's folder to load everything again",
            code="corrupt_manifest",
        ) from failure
    return manifest
