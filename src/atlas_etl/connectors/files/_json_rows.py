"""The lines of one JSON lines file as objects, each member as the text it was written in."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from atlas_etl.connectors.files._codec import open_text
from atlas_etl.connectors.files._failures import invalid_text, reading
from atlas_etl.connectors.files._store import Store, StoredFile
from atlas_etl.connectors.json_faults import JOIN_HALVES, fault_of, half_pair
from atlas_etl.connectors.json_texts import Row
from atlas_etl.errors import SourceError

_BLOCK, _LONGEST_LINE = 4 * 1024 * 1024, 256 * 1024 * 1024
_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_ROWS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def rows_of(store: Store, file: StoredFile, largest_ratio: int | None) -> Iterator[tuple[int, list[Row]]]:
    """The objects of a file in blocks, each with the number of its first line; blank lines are none.

    Raises SourceError (`malformed_row`, `invalid_text` and those of reading).
    """
    line = 1
    for block in _blocks(store, file, largest_ratio):
        try:
            rows = _ROWS.decode_lines(block)
        except (msgspec.DecodeError, RecursionError):
            raise _malformed(block, line, file.path) from None
        except UnicodeDecodeError as failure:  # of a member's name; values are looked at later
            raise invalid_text(file.path) from failure
        # More or fewer objects than lines: one of them spans lines, or shares one.
        if len(rows) != sum(1 for text in block.split(b"\n") if text.strip()):
            raise _malformed(block, line, file.path)
        if rows:
            yield line, rows
        line += block.count(b"\n")


def _blocks(store: Store, file: StoredFile, largest_ratio: int | None) -> Iterator[bytes]:
    """The file's bytes in pieces that end with a line."""
    with reading(file.path), open_text(store, file, largest_ratio) as source:
        started: list[bytes] = []
        first = True
        while chunk := source.read(_BLOCK):
            if first:
                if chunk.startswith(_UTF16_MARKS):
                    raise invalid_text(file.path)
                chunk, first = chunk.removeprefix(_MARK), False
            end = chunk.rfind(b"\n") + 1
            if end:
                yield b"".join((*started, chunk[:end]))
                started = []
            started.append(chunk[end:])
            if len(started) > _LONGEST_LINE // _BLOCK:
                raise SourceError(
                    f"{file.path} has a line of more than {_LONGEST_LINE >> 20} MiB",
                    hint="JSON lines have one object per line",
                    code="malformed_row",
                )
        if rest := b"".join(started):
            yield rest + b"\n"


def _malformed(block: bytes, line: int, path: str) -> SourceError:
    """Which line it is that is not one object."""
    for number, text in enumerate(block.split(b"\n"), line):
        try:
            if text.strip():
                _ROWS.decode(text)
        except UnicodeDecodeError:
            return invalid_text(path)
        except (msgspec.DecodeError, RecursionError) as failure:
            array = number == 1 and text.lstrip().startswith(b"[")
            hint = "each line must be one JSON object; the last one may be cut short"
            if array:
                hint = "the file is one JSON array; JSON lines have one object per line"
            elif half_pair(text):
                hint = JOIN_HALVES
            return SourceError(
                f"line {number} of {path} is not one JSON object: {fault_of(text, failure)}",
                hint=hint,
                code="malformed_row",
            )
    return SourceError(f"{path} is not JSON lines from line {line} on", code="malformed_row")
