"""The one list that all lists of a JSON document are in, as records are in most answers: read once."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

HOLE: Final = b"[\t\r\n\t]"  # an empty list as nobody writes it, and never within a string (RFC 8259, 7)

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)


class OuterList(Struct, frozen=True):
    """The list, its items, and the document with HOLE in its place."""

    text: bytes
    items: list[msgspec.Raw]
    around: bytes


def outer_list(document: bytes) -> OuterList | None:
    """What is between the first and the last bracket, where it is a list by itself and most of the document.

    A document is valid where its list is, and `around` is: any value may stand in the place of another. To
    cut out a short one, as records have, would take longer than it spares; None is for all others.
    """
    first, after = document.find(b"["), document.rfind(b"]") + 1
    if 2 * (after - first) <= len(document):
        return None
    around = document[:first] + HOLE + document[after:]
    try:
        items = _ITEMS.decode(memoryview(document)[first:after])
        _ANYTHING.decode(around)
    except (msgspec.DecodeError, RecursionError):
        return None
    has_hole = b"\t" in document and HOLE in document  # one byte alone is found far sooner
    return None if has_hole else OuterList(document[first:after], items, around)
