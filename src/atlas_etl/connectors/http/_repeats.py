"""Records that come again with the next page, because rows came or went while pages were read.

By offset or number, a record that is added moves others to the next page: they come twice, and are told by
their key. One that is deleted moves others to the page before: they would never come. With an overlap a page
repeats the end of the one before; where nothing is repeated, more went than it covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from atlas_etl.errors import SourceError

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ABSENT = msgspec.Raw(b"null")

Key = tuple[bytes, ...]


class Repeats:
    """Leaves out what the page before had already."""

    def __init__(self, key: Sequence[str], *, overlap: int, where: str) -> None:
        self._key = tuple(key)
        self._overlap = overlap
        self._where = where
        self._before: frozenset[Key] = frozenset()

    def new(self, records: list[msgspec.Raw]) -> list[msgspec.Raw]:
        """The records of the next page that the one before did not have.

        Raises SourceError (`rows_moved`) where an overlap should have brought some again and did not.
        """
        if not self._key or not records:
            return records
        keys = [self._key_of(record) for record in records]
        found = [record for record, key in zip(records, keys, strict=True) if key not in self._before]
        if self._overlap and self._before and len(found) == len(records):
            raise SourceError(
                f"{self._where}: more rows were deleted while pages were read than `overlap` covers, so that "
                "some were not seen",
                hint="sync again, or raise `overlap`; a cursor or keyset pagination has no such gaps",
                code="rows_moved",
                retryable=True,
            )
        self._before = frozenset(keys)
        return found

    def _key_of(self, record: msgspec.Raw) -> Key:
        try:
            members = _MEMBERS.decode(record)
        except msgspec.DecodeError:
            return (bytes(record),)  # no object: the columns refuse it
        return tuple(bytes(members.get(name, _ABSENT)) for name in self._key)
