"""Positions that move on, and nothing new with them: reading such pages would never end."""

from __future__ import annotations

from collections.abc import Generator

from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._page_ends import Moves, stuck
from atlas_etl.connectors.http._recognised import Page

_MOST_ALIKE = 100  # pages in a row, of records that nothing tells apart
_MOST_EMPTY = 1000  # in a row: an API that looks for few records among many gives some


def moving(flow: Generator[Request, Page, None], *, has_key: bool) -> Generator[Request, Page, None]:
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
