"""How many bytes the values of a page in DELTA_BYTE_ARRAY repeat: the page holds lengths in their place.

Such a value is a part of the one before it and what follows, so a page of 1 MB may stand for terabytes. The
lengths stand first, in DELTA_BINARY_PACKED.
https://parquet.apache.org/docs/file-format/data-pages/encodings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_EACH = 8  # blocks and miniblocks are of as many values, or a multiple
_WIDEST = 64  # bits

Numbers = npt.NDArray[np.int64]


def repeated_bytes(values: bytes, most_values: int) -> int:
    """The sum of the lengths with which a page's values begin.

    Raises pa.ArrowInvalid for what is no such page, or is one of more values.
    """
    try:
        lengths = _Lengths(values).read(most_values)
    except IndexError:
        raise pa.ArrowInvalid("a page ends within its lengths") from None
    if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= len(values):
        raise pa.ArrowInvalid("a page repeats more than it has")
    return int(lengths.sum())


class _Lengths:
    """Numbers in DELTA_BINARY_PACKED: the first, and the differences of each to the one before, in blocks."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def read(self, most: int) -> Numbers:
        """Raises IndexError where the content is cut, and pa.ArrowInvalid where it is something else."""
        block, parts, count, first = self._varint(), self._varint(), self._varint(), self._signed()
        if not 0 < parts <= block or block % parts or block // parts % _EACH or count > most:
            raise pa.ArrowInvalid("a page's lengths are malformed")
        if count == 0:
            return np.empty(0, np.int64)
        each = block // parts
        differences = np.zeros(count, np.int64)
        differences[0] = first
        places: dict[int, list[tuple[int, int]]] = {}  # by bits: where miniblocks begin, and their values
        done = 1
        while done < count:
            least = self._signed()
            widths = self._bytes(parts)
            differences[done : done + block] = least
            for width in widths:
                if done >= count:
                    break
                if width > _WIDEST:
                    raise pa.ArrowInvalid("a page's lengths are malformed")
                if width:
                    places.setdefault(width, []).append((self._at, done))
                self._at += width * each // 8
                done += each
        if self._at > len(self._content):
            raise IndexError
        for width, found in places.items():
            self._add(differences, found, width, each)
        with np.errstate(over="ignore"):
            return np.cumsum(differences)

    def _add(self, to: Numbers, found: list[tuple[int, int]], width: int, each: int) -> None:
        """Unpack all miniblocks of so many bits at once."""
        raw = np.frombuffer(self._content, np.uint8)
        starts = np.array([start for start, _ in found])
        packed = raw[starts[:, None] + np.arange(width * each // 8)]
        bits = np.unpackbits(packed, axis=1, bitorder="little").reshape(-1, each, width)
        weights = np.left_shift(np.uint64(1), np.arange(width, dtype=np.uint64))
        numbers = (bits * weights).sum(axis=2, dtype=np.uint64).astype(np.int64)
        targets = np.array([place for _, place in found])[:, None] + np.arange(each)
        there = targets < len(to)
        to[targets[there]] += numbers[there]

    def _bytes(self, count: int) -> bytes:
        found = self._content[self._at : self._at + count]
        if len(found) < count:
            raise IndexError
        self._at += count
        return found

    def _varint(self) -> int:
        found = shift = 0
        while (byte := self._content[self._at]) & 0x80:
            found |= (byte & 0x7F) << shift
            shift += 7
            self._at += 1
            if shift > 63:
                raise pa.ArrowInvalid("a page's lengths are malformed")
        self._at += 1
        return found | byte << shift

    def _signed(self) -> int:
        found = self._varint()
        return found >> 1 ^ -(found & 1)
