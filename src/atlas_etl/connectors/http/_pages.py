"""The pages of one stream: fetched ahead by a thread, kept on disk for as long as they may be read again.

What was fetched is the stream's snapshot: an API has none of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from tempfile import TemporaryFile
from typing import Final, TypeAlias

import msgspec

from atlas_etl.connectors.http._lines import Lines, lines_of
from atlas_etl.errors import SourceError

Records: TypeAlias = list[msgspec.Raw]

WINDOW_END: Final[Records] = []  # behind the pages of a window: all that comes later has later cursors
_AHEAD = 32 * 1024 * 1024  # bytes of pages that wait in memory to be read


class Pages:
    """Pages of records, in the order in which they came. Every read gives the same ones."""

    def __init__(self, fetched: Generator[Records, None, None]) -> None:
        """Fetching begins with the first read; `fetched` is closed with the pages."""
        self._fetched = fetched
        self._file = TemporaryFile(prefix="atlas-pages-")  # noqa: SIM115  # closed with the pages
        self._places: list[tuple[int, int, int]] = []  # in the file: a page's begin, size, records
        self._waiting: dict[int, Lines] = {}
        self._ahead = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_complete = self._is_closed = False
        self._failure: BaseException | None = None

    def read(self) -> Iterator[Lines]:
        """Every page from the first one on; those that were not fetched yet are waited for.

        Raises what fetching raised, when it gets there.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._fetch, name="atlas-pages", daemon=True)
            self._thread.start()
        number = 0
        while (page := self._page(number)) is not None:
            yield page
            number += 1

    def close(self) -> None:
        """Stop fetching and forget the pages; who waits for one gets an error. May be called twice.

        A request that is on its way is not waited for.
        """
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            if self._thread is None or self._is_complete:
                self._file.close()
            self._changed.notify_all()

    def _page(self, number: int) -> Lines | None:
        with self._changed:
            while number >= len(self._places) and not self._is_complete and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                raise SourceError("the read was given up", code="given_up")
            if number >= len(self._places):
                if self._failure is not None:
                    raise self._failure
                return None
            waiting = self._waiting.pop(number, None)
            start, size, count = self._places[number]
            if waiting is not None:
                self._ahead -= size
                self._changed.notify_all()
                return waiting
            return Lines(os.pread(self._file.fileno(), size, start), count)

    def _fetch(self) -> None:
        try:
            with closing(self._fetched):
                for records in self._fetched:
                    if not self._keep(records):
                        return
        except BaseException as failure:
            self._failure = failure
        finally:
            with self._changed:
                self._is_complete = True
                if self._is_closed:
                    self._file.close()
                self._changed.notify_all()

    def _keep(self, records: Records) -> bool:
        """Whether more is wanted, after waiting until there is room for it."""
        page = lines_of(records)
        start, size = self._file.tell(), len(page.content)
        self._file.write(page.content)
        self._file.flush()
        with self._changed:
            number = len(self._places)
            self._places.append((start, size, page.count))
            self._waiting[number] = page
            self._ahead += size
            self._changed.notify_all()
            while self._ahead > _AHEAD and not self._is_closed:
                self._changed.wait()
            return not self._is_closed
