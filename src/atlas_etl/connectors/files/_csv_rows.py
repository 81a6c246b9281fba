"""The records of one CSV file as batches of text, complete or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv
from msgspec import Struct

from atlas_etl.connectors.columns import repeated
from atlas_etl.connectors.files._codec import open_text, uncompressed_name
from atlas_etl.connectors.files._failures import brief, reading
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.errors import SourceError

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

_BLOCK, _LARGEST_BLOCK = 1024 * 1024, 256 * 1024 * 1024  # a record must fit; Arrow reads 32 blocks ahead
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")  # neither can begin a file of UTF-8


class Dialect(Struct, frozen=True):
    """How a CSV file is written."""

    delimiter: str | None = None  # None: by the file's ending
    quote: str | None = '"'
    encoding: str = "utf-8"
    header: bool | tuple[str, ...] = True
    null_strings: tuple[str, ...] = ("",)
    largest_ratio: int | None = None  # of `open_text`

    def delimiter_of(self, path: str) -> str:
        by_ending = "\t" if uncompressed_name(path).endswith((".tsv", ".tab")) else ","
        return self.delimiter or by_ending


class Records(Struct, frozen=True):
    """The records of one file. `skip` of them, the header's among them, come before the first row."""

    store: Store
    file: StoredFile
    dialect: Dialect
    encoding: str
    names: tuple[str, ...]
    skip: int

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some of the columns of every row as text. Raises SourceError (`ragged_row`, `unclosed_quote`)."""
        block, given = _BLOCK, 0
        while True:
            try:
                for batch in self._parsed(columns, block, given):
                    given += batch.num_rows
                    yield batch
                return
            except pa.ArrowInvalid as failure:
                if "straddl" in str(failure) and block < _LARGEST_BLOCK:
                    block *= 4  # begin again with room for the record, past the rows that were given
                    continue
                raise self._misshapen(failure) from failure

    def _parsed(self, columns: Sequence[str], block: int, skip: int) -> Iterator[pa.RecordBatch]:
        one = len(self.names) == 1  # a blank line is a row without a value
        end = f"atlas-{uuid4().hex}"
        with _text(self.store, self.file, self.encoding, self.dialect.largest_ratio) as text:
            delimiter = self.dialect.delimiter_of(self.file.path)
            source = _Ended(text, delimiter.join([end] * len(self.names)))
            reader = pyarrow.csv.open_csv(
                pa.PythonFile(source, mode="r"),
                read_options=pyarrow.csv.ReadOptions(
                    column_names=list(self.names),
                    skip_rows_after_names=self.skip,
                    block_size=block,
                    use_threads=False,
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=self.dialect.quote or False,
                    newlines_in_values=self.dialect.quote is not None,
                    ignore_empty_lines=not one,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(columns),
                    column_types={name: pa.string() for name in columns},
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    null_values=list(self.dialect.null_strings),
                ),
            )
            yield from _past(_without_end(reader, end, self.file.path), skip)

    def _misshapen(self, failure: pa.ArrowInvalid) -> SourceError:
        """Which line it is that cannot be a row; Arrow knows only the record."""
        if "UTF8" in str(failure):
            raise failure
        line, width = 1, len(self.names)
        ratio = self.dialect.largest_ratio
        with reading(self.file.path), _lines(self.store, self.file, self.encoding, ratio) as lines:
            records = _python_reader(lines, self.dialect, self.file.path, strict=True)
            try:
                for record in records:
                    if record and len(record) != width:
                        return _ragged(self.file.path, line, len(record), width)
                    line = records.line_num + 1
            except csv.Error as problem:
                if "unexpected end of data" in str(problem):
                    return _unclosed(self.file.path, line)
        return SourceError(
            f"{self.file.path} is no CSV file that can be read: {brief(failure)}",
            hint="check `delimiter`, `quote` and `encoding`",
            code="malformed_row",
        )


def records_of(store: Store, file: StoredFile, dialect: Dialect) -> Records | None:
    """The records of a file, its columns known; None where the file is empty and has no declared header."""
    encoding = _encoding(store, file, dialect)
    skipped, first = _first_record(store, file, dialect, encoding)
    if isinstance(dialect.header, tuple):
        return Records(store, file, dialect, encoding, dialect.header, 0)
    if first is None:
        return None
    if not dialect.header:
        names = tuple(f"column_{number}" for number in range(1, len(first) + 1))
        return Records(store, file, dialect, encoding, names, 0)
    names = tuple(name or f"column_{number}" for number, name in enumerate(first, 1))
    if any("\0" in name for name in names):  # past which Arrow finds no row
        raise SourceError(
            f"{file.path} has a name of a column with a NUL in it",
            hint="the file may be in another encoding: set `encoding`, e.g. utf-16-le",
            code="invalid_text",
        )
    twice = repeated(names)
    if twice is not None:
        raise SourceError(
            f"{file.path} has two columns named {twice!r}",
            hint="set `header` to a list of names, and leave the file's own header out",
            code="duplicate_column",
            column=twice,
        )
    return Records(store, file, dialect, encoding, names, 1 + skipped)


def _first_record(
    store: Store, file: StoredFile, dialect: Dialect, encoding: str
) -> tuple[int, list[str] | None]:
    """The first record that is not blank, and how many blank lines come before it."""
    with reading(file.path), _lines(store, file, encoding, dialect.largest_ratio) as lines:
        try:
            for skipped, record in enumerate(_python_reader(lines, dialect, file.path, strict=False)):
                if record:
                    return skipped, record
        except csv.Error as failure:
            raise SourceError(
                f"{file.path} does not begin like a CSV file: {brief(failure)}",
                hint="check `delimiter`, `quote` and `encoding`",
                code="malformed_row",
            ) from failure
    return 0, None


def _python_reader(lines: Iterator[str], dialect: Dialect, path: str, *, strict: bool) -> CsvReader:
    csv.field_size_limit(_LARGEST_BLOCK)
    return csv.reader(
        lines,
        delimiter=dialect.delimiter_of(path),
        quotechar=dialect.quote or '"',
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        strict=strict,
    )


def _encoding(store: Store, file: StoredFile, dialect: Dialect) -> str:
    with reading(file.path), open_text(store, file, dialect.largest_ratio) as raw:
        is_utf16 = dialect.encoding == "utf-8" and raw.read(2) in _UTF16_MARKS
        return "utf-16" if is_utf16 else dialect.encoding


@contextmanager
def _text(store: Store, file: StoredFile, encoding: str, ratio: int | None) -> Iterator[pa.NativeFile]:
    """The file's bytes, decompressed, as UTF-8."""
    with open_text(store, file, ratio) as raw:
        yield raw if encoding == "utf-8" else pa.transcoding_input_stream(raw, encoding, "utf8")


@contextmanager
def _lines(store: Store, file: StoredFile, encoding: str, ratio: int | None) -> Iterator[Iterator[str]]:
    """The file's lines without its mark, before which a quote would be an ordinary character."""
    with open_text(store, file, ratio) as raw:
        lines = io.TextIOWrapper(raw, encoding=encoding, newline="")
        yield (line if number else line.removeprefix("\ufeff") for number, line in enumerate(lines))


class _Ended(io.RawIOBase):
    """A file with one more record, to know whether the parser came to the file's end outside of quotes.

    Arrow takes the rest of a file for a quoted value where its quote is never closed.
    """

    def __init__(self, source: pa.NativeFile, record: str) -> None:
        self._source = source
        self._record: bytes | None = record.encode()
        self._last = b"\n"
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """As many bytes as asked for, until the end: Arrow takes a short piece for a whole block.

        One less where the last is a CR: Arrow leaves out an LF that begins a piece then, within quotes too.
        """
        pieces, missing = [self._rest], size - len(self._rest)
        while missing > 0 and self._record is not None:
            found: bytes = self._source.read(missing)
            if not found:
                found, self._record = (b"" if self._last in b"\r\n" else b"\n") + self._record, None
            self._last = found[-1:]
            pieces.append(found)
            missing -= len(found)
        whole = b"".join(pieces)
        end = size - whole[:size].endswith(b"\r")
        self._rest = whole[end:]
        return whole[:end]


def _without_end(reader: pa.RecordBatchReader, end: str, path: str) -> Iterator[pa.RecordBatch]:
    """The batches without their last row, which must be the one that was added."""
    held: pa.RecordBatch | None = None
    for batch in reader:
        if batch.num_rows == 0:
            continue
        if held is not None:
            yield held
        held = batch
    last = held.slice(held.num_rows - 1).to_pylist()[0] if held is not None else {}
    if held is None or set(last.values()) != {end}:
        raise pa.ArrowInvalid(f"{path}: a quote is not closed")
    yield held.slice(0, held.num_rows - 1)


def _past(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The batches without their first rows."""
    for batch in batches:
        if rows < batch.num_rows:
            yield batch.slice(rows)
        rows = max(0, rows - batch.num_rows)


def _ragged(path: str, line: int, found: int, expected: int) -> SourceError:
    return SourceError(
        f"line {line} of {path} has {found} fields, and there are {expected} columns",
        hint="quote fields that hold the delimiter; check `delimiter`, `quote` and `header`",
        code="ragged_row",
    )


def _unclosed(path: str, line: int) -> SourceError:
    return SourceError(
        f"a quote in the record of line {line} of {path} is never closed",
        hint="the file may be cut short; set `quote` to null where quotes are ordinary characters",
        code="unclosed_quote",
    )
