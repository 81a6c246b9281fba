"""Records as JSON lines, the form in which they wait to be decoded: those of one page, or of several."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

_LINE_END = 0x0A


class Lines(Struct, frozen=True):
    """Records, each on a line of its own."""

    content: bytes
    count: int


def lines_of(records: Sequence[msgspec.Raw]) -> Lines:
    """One page's records. A line's end within a record is a blank then: no string of JSON holds one."""
    content = b"\n".join(records)
    ends = np.count_nonzero(np.frombuffer(content, np.uint8) == _LINE_END)
    if ends >= max(1, len(records)):
        content = b"\n".join([bytes(record).replace(b"\n", b" ") for record in records])
    return Lines(content, len(records))


def joined(pages: Sequence[Lines]) -> Lines:
    """The records of pages in turn; none of them is empty."""
    return Lines(b"\n".join([page.content for page in pages]), sum(page.count for page in pages))
