"""Positions that move on, and nothing new with them: reading such pages would never end."""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec

from atlas_etl.connectors.http._pagination.flow import Flow
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.errors import SourceError

_MOST_TIMES = 3
_MOST_ALIKE = 100  # pages in a row, of records that nothing tells apart
_MOST_EMPTY = 1000  # in a row: an API that looks for few records among many gives some


def moving(flow: Flow, *, has_key: bool) -> Flow:
    """The same requests, for as long as cursors, keys and links that an API gives lead anywhere.

    Raises SourceError (`pagination_stuck`).
    """
    standstill = _Standstill(has_key=has_key)
    request = next(flow)
    while True:
        page = yield request
        try:
            request = flow.send(page)
        except StopIteration:
            return
        standstill.see(page)


class _Standstill:
    def __init__(self, *, has_key: bool) -> None:
        """Without a key, as many records as there are may be equal: then only very many pages tell."""
        self._moves = Moves() if has_key else None
        self._before: list[bytes] = []
        self._alike = self._empty = 0

    def see(self, page: Page) -> None:
        """Raises SourceError (`pagination_stuck`)."""
        if not page.records:
            self._empty += 1
            if self._empty == _MOST_EMPTY:
                raise stuck(f"{_MOST_EMPTY:,} pages in a row have no record")
            return
        self._empty = 0
        if self._moves is not None:
            self._moves.see(page)
            return
        here = list(map(bytes, page.records))
        self._alike = self._alike + 1 if here == self._before else 1
        self._before = here
        if self._alike == _MOST_ALIKE:
            raise stuck(f"the same page came {_MOST_ALIKE} times in a row")


class Moves:
    """Tells pages that go on from those that come again.

    Records without a key may be equal, so one alone, or pages apart, may come again, but not for ever. Pages
    that begin and end as none before do are new ones; only the others are digested, and counted from then on.
    """

    def __init__(self) -> None:
        self._before: list[msgspec.Raw] = []
        self._ends: set[int] = set()
        self._times: Counter[bytes] = Counter()

    def see(self, page: Page) -> None:
        """Raises SourceError (`pagination_stuck`)."""
        records = page.records
        if not records:
            return
        if len(records) > 1 and records == self._before:
            raise stuck("the same page came twice in a row")
        self._before = records
        ends = hash((len(records), bytes(records[0]), bytes(records[-1])))
        if ends not in self._ends:
            self._ends.add(ends)
            return
        here = hashlib.blake2b(b"\n".join(records), digest_size=16).digest()
        self._times[here] += 1
        if self._times[here] == _MOST_TIMES:
            raise stuck(f"the same page came {_MOST_TIMES} times")


def stuck(why: str) -> SourceError:
    return SourceError(
        f"the pages do not move on: {why}, so that reading them would never end",
        hint="check `pagination`: its `parameter` may have another name, or the API may have one page only "
        "(`pagination: none`)",
        code="pagination_stuck",
    )
