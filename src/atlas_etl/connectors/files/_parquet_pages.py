"""What the pages of a Parquet file say that they unpack to: their headers, read before any of them is.

A footer may say anything; a page that unpacks to another size than its own header says is refused by Arrow. A
header is a struct of Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), `PageHeader` of
https://github.com/apache/parquet-format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_etl.connectors.files._parquet_prefixes import repeated_bytes

_KIND, _UNPACKED, _PACKED, _FIRST, _SECOND = 1, 2, 3, 5, 8  # fields of a PageHeader; of its version's header:
_VALUES, _ENCODING, _ENCODING_2, _LEVELS_2, _IS_PACKED_2 = 1, 2, 4, (5, 6), 7
_DICTIONARY = 2  # a kind of page
_LENGTHS, _PREFIXES = 6, 7  # encodings: DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY
_TEXT = "BYTE_ARRAY"
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, _TEXT: 4}
_CODECS = {"SNAPPY": "snappy", "GZIP": "gzip", "ZSTD": "zstd", "BROTLI": "brotli"}
_OF_A_LENGTH = 4  # bytes in memory
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)  # 16, 32 and 64 bits
_ONE_BYTE, _MOST_DEPTH = (_TRUE, _FALSE, _BYTE), 16
_FIRST_READ, _MOST_READ = 256, 16 * 1024 * 1024  # bytes of a header; statistics make it long


def unpacked_sizes(
    source: pa.NativeFile | BinaryIO, chunk: pq.ColumnChunkMetaData, leaf: pq.ColumnSchema
) -> Iterator[int]:
    """Bytes that the pages of a column of a row group unpack to, one part after another, the cheapest first.

    What their values need beside that is counted where no batch of rows bounds it: in a list that one row may
    be, for lengths that Arrow reads of a whole page at once, and for what values of DELTA_BYTE_ARRAY repeat.

    Raises pa.ArrowInvalid where something else is where the footer says that pages are.
    """
    size = 0
    width = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS[leaf.physical_type]
    prefixed: list[tuple[int, _Header]] = []
    for place, header in _headers(source, chunk):
        size += header.numbers[_UNPACKED]
        if leaf.max_repetition_level:
            size += header.values * width
        if header.encoding in (_LENGTHS, _PREFIXES):
            size += header.values * _OF_A_LENGTH * 2
        if header.encoding == _PREFIXES and leaf.physical_type == _TEXT:
            prefixed.append((place, header))
    yield size
    for place, header in prefixed:
        source.seek(place)
        content = source.read(header.numbers[_PACKED])
        yield _repeated(content, header, _CODECS.get(chunk.compression), chunk.compression, leaf)


def value_count(source: pa.NativeFile | BinaryIO, chunk: pq.ColumnChunkMetaData) -> int:
    """Values of a column of a row group, those of lists each by itself. Raises pa.ArrowInvalid."""
    return sum(header.values for _, header in _headers(source, chunk))


def _headers(
    source: pa.NativeFile | BinaryIO, chunk: pq.ColumnChunkMetaData
) -> Iterator[tuple[int, _Header]]:
    """Each page's header, and where what it is about begins."""
    if not _has_pages(chunk):
        return
    at = _start(chunk)
    end = at + chunk.total_compressed_size
    while at < end:
        header = _header(source, at)
        kind, unpacked, packed = (header.numbers.get(field, -1) for field in (_KIND, _UNPACKED, _PACKED))
        if min(kind, unpacked, packed) < 0:
            raise pa.ArrowInvalid("the header of a page has no sizes")
        yield at + header.end, header
        at += header.end + packed


def _repeated(
    content: bytes, header: _Header, codec: str | None, compression: str, leaf: pq.ColumnSchema
) -> int:
    """Bytes that values of a page in DELTA_BYTE_ARRAY repeat of others; the most where it cannot be known."""
    levels, unpacked = b"", header.numbers[_UNPACKED]
    if header.version == _SECOND:
        before = sum(header.inner.get(field, 0) for field in _LEVELS_2)
        levels, content = content[:before], content[before:]
    is_packed = compression != "UNCOMPRESSED" and header.inner.get(_IS_PACKED_2, 1) == 1
    if is_packed and codec is None:
        return header.values * unpacked
    if is_packed:
        content = pa.decompress(content, max(0, unpacked - len(levels)), codec, asbytes=True)
    if header.version == _FIRST:
        for most in (leaf.max_repetition_level, leaf.max_definition_level):
            if most:  # they begin with their length
                content = content[4 + int.from_bytes(content[:4], "little") :]
    return repeated_bytes(content, header.values)


def dictionary_size(source: pa.NativeFile | BinaryIO, chunk: pq.ColumnChunkMetaData) -> int:
    """Bytes of the dictionary of a column of a row group, 0 without one. Raises pa.ArrowInvalid."""
    if not _has_pages(chunk):
        return 0
    header = _header(source, _start(chunk))
    return max(0, header.numbers.get(_UNPACKED, 0)) if header.numbers.get(_KIND) == _DICTIONARY else 0


def _has_pages(chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether Arrow looks for any: of a row group without rows a footer may say where they would be."""
    return bool(chunk.num_values > 0 and chunk.total_compressed_size > 0)


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    first: int = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < first:
        first = chunk.dictionary_page_offset
    if first < 0:
        raise pa.ArrowInvalid("a column begins before its file")
    return first


def _header(source: pa.NativeFile | BinaryIO, at: int) -> _Header:
    size = _FIRST_READ
    while True:
        source.seek(at)
        content = source.read(size)
        try:
            return _Header(content)
        except IndexError:
            if len(content) < size or size >= _MOST_READ:
                raise pa.ArrowInvalid("the header of a page has no end") from None
            size *= 16


class _Header:
    """The numbers of a struct's own fields, by field, and where the struct ends. Raises IndexError if cut.

    `inner` are those of the page's own header, and `version` is that one's field, 0 without one.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.end = self.version = 0
        self.numbers: dict[int, int] = {}
        self.inner: dict[int, int] = {}
        for field, kind in self._fields():
            if kind in _INTEGERS:
                self.numbers[field] = self._signed()
            elif field in (_FIRST, _SECOND) and kind == _STRUCT:
                self.version = field
                self._read_inner()
            else:
                self._skip_field(kind, 1)

    @property
    def values(self) -> int:
        """How many a page has; NULLs and empty lists count."""
        return max(0, self.inner.get(_VALUES, 0))

    @property
    def encoding(self) -> int | None:
        return self.inner.get(_ENCODING if self.version == _FIRST else _ENCODING_2)

    def _read_inner(self) -> None:
        for field, kind in self._fields():
            if kind in _INTEGERS:
                self.inner[field] = self._signed()
            elif kind in (_TRUE, _FALSE):
                self.inner[field] = int(kind == _TRUE)
            else:
                self._skip(kind, 2)

    def _fields(self) -> Iterator[tuple[int, int]]:
        field = 0
        while (head := self._byte()) != 0:
            field = field + (head >> 4) if head >> 4 else self._signed()
            yield field, head & 0x0F

    def _skip_field(self, kind: int, depth: int) -> None:
        if kind not in (_TRUE, _FALSE):  # which are their own values
            self._skip(kind, depth)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _MOST_DEPTH:
            raise pa.ArrowInvalid("the header of a page is nested too deeply")
        if kind == _STRUCT:
            for _, inner in self._fields():
                self._skip_field(inner, depth + 1)
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _BINARY:
            self._pass(self._varint())
        elif kind in (_LIST, _SET):
            head = self._byte()
            for _ in range(head >> 4 if head >> 4 < 15 else self._varint()):
                self._skip(head & 0x0F, depth + 1)
        elif kind == _MAP:
            if count := self._varint():
                kinds = self._byte()
                for _ in range(count):
                    self._skip(kinds >> 4, depth + 1)
                    self._skip(kinds & 0x0F, depth + 1)
        elif kind in _ONE_BYTE or kind == _DOUBLE:
            self._pass(8 if kind == _DOUBLE else 1)
        else:
            raise pa.ArrowInvalid("the header of a page is malformed")

    def _pass(self, size: int) -> None:
        self.end += size
        if self.end > len(self._content):
            raise IndexError

    def _byte(self) -> int:
        found = self._content[self.end]
        self.end += 1
        return found

    def _varint(self) -> int:
        found = shift = 0
        while (byte := self._byte()) & 0x80:
            found |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise pa.ArrowInvalid("the header of a page is malformed")
        return found | byte << shift

    def _signed(self) -> int:
        found = self._varint()
        return found >> 1 ^ -(found & 1)
