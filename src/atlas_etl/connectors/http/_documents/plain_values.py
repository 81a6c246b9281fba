"""Records that are plain values, such as the items of ["EUR", "USD"], as objects with one member."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

_OBJECT = 0x7B  # {


def named_values(records: Sequence[msgspec.Raw], column: str | None) -> list[msgspec.Raw]:
    """Each value, null or list as the member `column` of an object; objects stay, and without it all do."""
    if column is None:
        return list(records)
    name = msgspec.json.encode(column)
    return [
        record if memoryview(record)[0] == _OBJECT else msgspec.Raw(b"{%b:%b}" % (name, bytes(record)))
        for record in records
    ]
