"""What the pages of a Parquet file say that they unpack to: their headers alone, read before any of them is.

A footer may say anything; a page that unpacks to another size than its own header says is refused by Arrow. A
header is a struct of Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), of which pages need
(https://github.com/apache/parquet-format, `PageHeader`) the first three fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

_KIND, _UNPACKED, _PACKED = 1, 2, 3  # fields of a PageHeader
_DICTIONARY = 2  # a kind of page
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)  # 16, 32 and 64 bits
_ONE_BYTE, _MOST_DEPTH = (_TRUE, _FALSE, _BYTE), 16
_FIRST_READ, _MOST_READ = 256, 16 * 1024 * 1024  # bytes of a header; statistics make it long


def unpacked_size(source: pa.NativeFile | BinaryIO, chunk: pq.ColumnChunkMetaData) -> int:
    """Bytes that the pages of a column of a row group unpack to.

    Raises pa.ArrowInvalid where something else is where the footer says that pages are.
    """
    if not _has_pages(chunk):
        return 0
    at, size = _start(chunk), 0
    end = at + chunk.total_compressed_size
    while at < end:
        header = _header(source, at)
        kind, unpacked, packed = (header.numbers.get(field, -1) for field in (_KIND, _UNPACKED, _PACKED))
        if min(kind, unpacked, packed) < 0:
            raise pa.ArrowInvalid("the header of a page has no sizes")
        size += unpacked
        at += header.end + packed
    return size


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
    """The numbers of a struct's own fields, by field, and where the struct ends. Raises IndexError if cut."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.end = 0
        self.numbers: dict[int, int] = {}
        for field, kind in self._fields():
            if kind in _INTEGERS:
                self.numbers[field] = self._signed()
            else:
                self._skip_field(kind, 1)

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
