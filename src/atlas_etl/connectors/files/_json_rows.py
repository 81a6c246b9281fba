"""The lines of one JSON lines file as objects, each member as the text it was written in."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

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


class Block(Struct, frozen=True):
    """Whole lines of one file."""

    content: bytes
    path: str
    line: int  # the number of the first
    lines: int
    is_open: bool  # whether the last one has no end: whoever writes it may not be done with it

    def rows(self) -> list[Row]:
        """The objects; blank lines are none. Raises SourceError (`malformed_row`, `invalid_text`)."""
        try:
            rows = _ROWS.decode_lines(self.content)
        except (msgspec.DecodeError, RecursionError):
            raise _malformed(self) from None
        except UnicodeDecodeError as failure:  # of a member's name; values are looked at later
            raise invalid_text(self.path) from failure
        # More or fewer objects than lines: one of them spans lines, or shares one.
        if len(rows) != sum(1 for text in self.content.split(b"\n") if text.strip()):
            raise _malformed(self)
        return rows


def blocks_of(store: Store, file: StoredFile, largest_ratio: int | None) -> Iterator[Block]:
    """The lines of a file, piece by piece. Raises SourceError (`malformed_row` and those of reading)."""
    line = 1
    for content in _contents(store, file, largest_ratio):
        is_open = not content.endswith(b"\n")
        whole = content + b"\n" if is_open else content
        lines = whole.count(b"\n")
        yield Block(whole, file.path, line, lines, is_open)
        line += lines


def _contents(store: Store, file: StoredFile, largest_ratio: int | None) -> Iterator[bytes]:
    """The file's bytes in pieces that end with a line, which in the last one may have no end."""
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
            yield rest


def _malformed(block: Block) -> SourceError:
    """Which line it is that is not one object."""
    path = block.path
    for number, text in enumerate(block.content.split(b"\n"), block.line):
        try:
            if text.strip():
                _ROWS.decode(text)
        except UnicodeDecodeError:
            return invalid_text(path)
        except (msgspec.DecodeError, RecursionError) as failure:
            array = number == 1 and text.lstrip().startswith(b"[")
            is_cut = block.is_open and number == block.line + block.lines - 1 and not array
            hint = "each line must be one JSON object"
            if is_cut:
                hint += "; this one has no end: the file is cut short, or still being written"
            if array:
                hint = "the file is one JSON array; JSON lines have one object per line"
            elif half_pair(text):
                hint = JOIN_HALVES
            return SourceError(
                f"line {number} of {path} is not one JSON object: {fault_of(text, failure)}",
                hint=hint,
                code="malformed_row",
                retryable=is_cut,
            )
    return SourceError(f"{path} is not JSON lines from line {block.line} on", code="malformed_row")
