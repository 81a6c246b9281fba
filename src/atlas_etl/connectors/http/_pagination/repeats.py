"""Records that come again with the next page, because rows came or went while pages were read.

By offset or number, a record that is added moves others to the next page: they come twice, and are told by
their key. One that is deleted moves others to the page before: they would never come. With an overlap a page
repeats the end of the one before; where nothing is repeated, more went than it covers. Pages by number have
no such overlap: each is read once more behind the next one, and has by then what moved out of that.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from atlas_etl.errors import SourceError

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ABSENT = msgspec.Raw(b"null")

Key = tuple[bytes, ...]


def behind(before: list[msgspec.Raw], records: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """The records without those at their beginning that the page before ended with.

    Some APIs begin a page with the record that they are asked to go on from, and with its ties.
    """
    for start in range(len(before) - 1, -1, -1):
        if records and before[start] == records[0] and before[start:] == records[: len(before) - start]:
            return records[len(before) - start :]
    return records


class Repeats:
    """Leaves out what the page before had already."""

    def __init__(self, key: Sequence[str], *, merges: bool, where: str) -> None:
        """Where rows are not merged by their key, two versions of one record would be two rows."""
        self._key = tuple(key)
        self._merges = merges
        self._where = where
        self._before: dict[Key, bytes] = {}
        self._earlier: dict[Key, bytes] = {}  # of the page before that one, and what came to it

    def new(self, records: list[msgspec.Raw], *, expected: int) -> list[msgspec.Raw]:
        """The records of the next page that the one before did not have; `expected`: how many it has again.

        Raises SourceError (`rows_moved`) where an overlap should have brought some again and did not, and
        where a record came again and is another one.
        """
        if not self._key:
            return records
        self._earlier, self._before = self._before, self._keyed(records)
        if not records:
            return records
        before = self._earlier
        repeated = before.keys() & self._before.keys()
        if expected and not repeated:
            raise self._moved(
                "more rows were deleted while pages were read than `overlap` covers: some were not seen",
                "sync again, or raise `overlap`; a cursor or keyset pagination has no such gaps",
            )
        if not repeated:
            return records
        changed = {key for key in repeated if before[key] != self._before[key]}
        if changed and not self._merges:
            raise self._moved(
                "a record was changed while pages were read, and came with two of them",
                "sync again; with the disposition merge the newer one counts",
            )
        return [
            record for record in records if (key := self._key_of(record)) not in repeated or key in changed
        ]

    def missed(self, records: list[msgspec.Raw]) -> list[msgspec.Raw]:
        """The records of a page, read again behind the next one, that were in neither before.

        Raises SourceError (`rows_moved`) where nothing of the page is left there: more went than it holds.
        """
        if not self._key or not self._earlier:
            return []
        here = self._keyed(records)
        if not here.keys() & self._earlier.keys():
            raise self._moved(
                "more rows were deleted or added while pages were read than a page has: some were not seen",
                "sync again, or raise `page_size`; a cursor or keyset pagination has no such gaps",
            )
        known = self._earlier.keys() | self._before.keys()
        unseen = [record for record in records if self._key_of(record) not in known]
        self._before |= {key: content for key, content in here.items() if key not in known}
        return unseen

    def _keyed(self, records: list[msgspec.Raw]) -> dict[Key, bytes]:
        return {self._key_of(record): bytes(record) for record in records}

    def _moved(self, why: str, hint: str) -> SourceError:
        return SourceError(f"{self._where}: {why}", hint=hint, code="rows_moved", retryable=True)

    def _key_of(self, record: msgspec.Raw) -> Key:
        try:
            members = _MEMBERS.decode(record)
        except msgspec.DecodeError:
            return (bytes(record),)  # no object: the columns refuse it
        return tuple(bytes(members.get(name, _ABSENT)) for name in self._key)
