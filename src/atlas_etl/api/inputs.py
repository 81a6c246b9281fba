"""Files and standard input that are to be loaded: their format, where they lie, what tells them apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.json_faults import JOIN_HALVES, fault_of, half_pair
from atlas_etl.errors import SourceError, UsageError

STDIN = "-"
_HEAD = 64 * 1024
_LARGEST_DOCUMENT = 256 * 1024 * 1024
_BLOCK = 1024 * 1024
_COMPRESSED: Mapping[bytes, str] = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
_CODECS: Mapping[str, str] = {".gz": "gzip", ".zst": "zstd"}


class FileFormat(StrEnum):
    """What is loaded; `json` is one document, an array of objects or an object."""

    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"
    PARQUET = "parquet"


_ENDINGS: Mapping[str, FileFormat] = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSON,
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
}


class Input(Struct, frozen=True):
    """One file to load; `protocol` reads what lies at `path`; `digest` is of the bytes that were given."""

    called: str
    path: Path
    protocol: str
    digest: str
    given: Path | None  # the user's own file, which may change meanwhile
    version: tuple[int, ...] = ()

    def refuse_change(self) -> None:
        """Raise SourceError where the file is not the one that the digest is of."""
        if self.given is not None and _version(self.given) != self.version:
            raise SourceError(
                f"{self.called} changed while it was loaded, so nothing of it was",
                hint="load it once it is complete",
                code="changed_while_reading",
                retryable=True,
            )


def input_of(given: str, form: FileFormat | None, stdin: BinaryIO, scratch: Path) -> Input:
    """A file, or standard input (`-`), which is kept in `scratch`. Raises UsageError and SourceError."""
    if given == STDIN:
        path, digest = _kept(stdin, scratch)
        return _converted(Input("standard input", path, "", digest, None), form, scratch)
    path = Path(os.path.abspath(given))
    try:
        version = _version(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as failure:
        raise SourceError(
            f"{given} cannot be read: {failure.strerror}", hint="check its path", code="file_not_found"
        ) from None
    return _converted(Input(given, path, "", digest, path, version), form, scratch)


def _version(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


def _kept(stdin: BinaryIO, scratch: Path) -> tuple[Path, str]:
    path, digest = scratch / "input", hashlib.sha256()
    with path.open("xb") as file:
        while block := stdin.read(_BLOCK):
            digest.update(block)
            file.write(block)
    with path.open("rb") as file:
        magic = file.read(4)
    ending = next((end for begin, end in _COMPRESSED.items() if magic.startswith(begin)), "")
    return path.rename(f"{path}{ending}"), digest.hexdigest()


def _converted(found: Input, form: FileFormat | None, scratch: Path) -> Input:
    form = form or _by_name(found) or _by_content(found)
    path = found.path
    if form is FileFormat.JSON:
        path = scratch / f"{found.digest}.jsonl"
        path.write_bytes(_as_lines(found))
        form = FileFormat.JSONL
    return Input(found.called, path, form.value, found.digest, found.given, found.version)


def _by_name(found: Input) -> FileFormat | None:
    name = found.path.name.lower()
    for ending in _CODECS:
        name = name.removesuffix(ending)
    return _ENDINGS.get(os.path.splitext(name)[1])


def _by_content(found: Input) -> FileFormat:
    head = _read(found, _HEAD)
    if head.startswith(b"PAR1"):
        return FileFormat.PARQUET
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not begin:
        raise UsageError(f"{found.called} is empty", hint="is what should have written it still right?")
    if begin.startswith(b"["):
        return FileFormat.JSON
    if not begin.startswith(b"{"):
        return FileFormat.CSV
    line, ends, _ = begin.partition(b"\n")
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return FileFormat.JSON if ends else FileFormat.JSONL
    except UnicodeDecodeError:  # who reads the lines tells of it
        return FileFormat.JSONL
    return FileFormat.JSONL


def _read(found: Input, size: int) -> bytes:
    """The first bytes, decompressed. Raises SourceError."""
    codec = _CODECS.get(found.path.suffix.lower())
    try:
        with pa.OSFile(str(found.path)) as raw:
            content: bytes = (pa.CompressedInputStream(raw, codec) if codec else raw).read(size)
            return content
    except OSError as failure:
        raise SourceError(f"{found.called} cannot be read: {failure}", code="read_failed") from None


def _as_lines(found: Input) -> bytes:
    """A JSON document's objects as JSON lines, each in its own spelling. Raises SourceError."""
    content = _read(found, _LARGEST_DOCUMENT + 1).removeprefix(b"\xef\xbb\xbf")
    if len(content) > _LARGEST_DOCUMENT:
        raise SourceError(
            f"{found.called} is one JSON document of more than {_LARGEST_DOCUMENT >> 20} MiB",
            hint="a document is read whole: give JSON lines, as `jq -c '.[]'` makes them",
            code="document_too_large",
        )
    try:
        is_list = content.lstrip()[:1] == b"["
        objects = msgspec.json.decode(content if is_list else b"[" + content + b"]", type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as failure:
        raise SourceError(
            f"{found.called} is not a JSON document: {fault_of(content, failure)}",
            hint=JOIN_HALVES if half_pair(content) else "give --format where it is of another one",
            code="invalid_json",
        ) from None
    # A line break in valid JSON is a blank between its tokens.
    return b"".join(bytes(each).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" for each in objects)
