"""Which lists a stream is read from: one, or those of windows and parents, each from where it was left.

What a list holds is fetched by others: pages, jobs, or messages of SOAP.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from atlas_etl.connectors.http._error_objects import ErrorObjects, known_records
from atlas_etl.connectors.http._filled import filled
from atlas_etl.connectors.http._first_request import first_request
from atlas_etl.connectors.http._in_order import in_order
from atlas_etl.connectors.http._incremental.read_time import ReadTime
from atlas_etl.connectors.http._incremental.since import TICKS, Newest, since
from atlas_etl.connectors.http._incremental.windows import Windows
from atlas_etl.connectors.http._messages import Request, Response
from atlas_etl.connectors.http._pages import WINDOW_END, Records
from atlas_etl.connectors.http._parents.looked_at import LookedAt
from atlas_etl.connectors.http._parents.parent_bounds import PARENT, ParentBounds
from atlas_etl.connectors.http._parents.values import distinct, values_of, with_values
from atlas_etl.connectors.http._prior.given import GivenNames
from atlas_etl.connectors.http._prior.sent import given_names
from atlas_etl.connectors.http._reading import Reading
from atlas_etl.connectors.http._settings.connection import HttpConnection, Resource
from atlas_etl.connectors.http._templates import Values
from atlas_etl.errors import ConfigError
from atlas_etl.model import CursorValue, Disposition, ReadRequest

Fetched: TypeAlias = Callable[[Resource, Request, Reading], Generator[Records, None, None]]


class Lists:
    """The lists of one API's resources."""

    def __init__(
        self,
        config: HttpConnection,
        *,
        fetch: Callable[[Request], Response],
        fetched: Fetched,
        now: Callable[[], datetime],
    ) -> None:
        """`fetched` gives the pages of one list, from its first request on; windows end `now`."""
        self._config = config
        self._fetch = fetch
        self._fetched = fetched
        self._now = now

    def reading(self, request: ReadRequest, resource: Resource) -> Reading:
        """How a stream is read, from its checkpoint on. Raises ConfigError and SourceError."""
        stream = request.stream
        merges = stream.disposition is Disposition.MERGE
        merges = merges or (stream.disposition is None and stream.cursor is not None)
        bounds = looked = None
        if resource.parent is not None and stream.cursor is not None:
            is_clock = resource.parent.shared_cursor or resource.incremental.format in TICKS
            bounds = ParentBounds(request.since, request.parents, is_clock=is_clock, keyed=request.keyed)
            above = self._config.resources[resource.parent.resource]
            merges_all = merges and bool(stream.primary_key or resource.primary_key)
            if resource.parent.changed_only and merges_all and above.cursor is not None:
                looked = LookedAt(above.cursor)
        reading = Reading(
            stream.primary_key or resource.primary_key,
            merges,
            stream.cursor,
            limit=request.limit,
            timezone=stream.timezone,
            parents=bounds,
            looked=looked,
            time=ReadTime(self._now),
            given=self._given(resource),
            errors=ErrorObjects(
                has_records=known_records(
                    request.known, added=resource.parent.fields if resource.parent is not None else ()
                )
            ),
        )
        return self._from(resource, reading, request.since if stream.cursor else None)

    def read(self, resource: Resource, reading: Reading) -> Generator[Records, None, None]:
        """The pages of a resource; of one with a parent, those of each of its records, in their order."""
        parent, bounds = resource.parent, reading.parents
        if parent is None:
            yield from self._listed(resource, self.first(resource, reading), reading)
            return
        above = self._config.resources[parent.resource]
        of_parents = self._from(
            above,
            Reading(
                above.primary_key, timezone=reading.timezone, time=reading.time, given=self._given(above)
            ),
            reading.since if parent.changed_only else None,
        )

        def listed() -> Iterator[msgspec.Raw]:
            for page in parents:
                yield from page
                if reading.looked is not None:
                    reading.looked.see(page)
            if reading.looked is not None:
                reading.looked.is_complete = True

        def asked() -> Iterator[tuple[Values, int | None]]:
            for key, found in distinct(values_of(parent, record) for record in listed()):
                yield found, None if bounds is None else bounds.number(key)

        def pages_below(item: tuple[Values, int | None]) -> list[Records]:
            found, number = item
            members, own = found if parent.include else {}, reading
            if bounds is not None and number is not None:
                members = {**members, PARENT: number}
                own = self._from(resource, reading, bounds.bound(number).value)
            pages = self._listed(resource, filled(self.first(resource, own), found), own)
            return [with_values(page, members) if members else page for page in pages if page]

        with closing(self.read(above, of_parents)) as parents:
            for pages in in_order(pages_below, asked(), at_once=self._config.concurrency):
                yield from pages

    def first(self, resource: Resource, reading: Reading) -> Request:
        """The first request for what is new; windows have bounds of their own."""
        first = filled(first_request(self._config, resource), reading.given.texts)
        if resource.incremental.start is not None:
            return first
        return since(first, resource.incremental, reading.since, reading.timezone)

    def beside(self, resource: Resource, path: str) -> Request:
        """A request that belongs to those of a resource."""
        return first_request(self._config, Resource(path=path, headers=resource.headers))

    def _from(self, resource: Resource, reading: Reading, bound: CursorValue | None) -> Reading:
        """The same from another bound on."""
        newest = None
        if bound is not None and reading.cursor and resource.incremental.order == "descending":
            newest = Newest(reading.cursor, bound)
        windows = self._windows(resource, reading.cursor, bound, reading.timezone)
        return replace(reading, since=bound, newest=newest, windows=windows)

    def _windows(
        self, resource: Resource, cursor: str | None, bound: CursorValue | None, timezone: str | None
    ) -> Windows | None:
        how, cursor = resource.incremental, cursor or resource.cursor
        if how.start is None:
            return None
        if cursor is None:
            raise ConfigError(
                "`start` and `window` need a cursor, which tells when a record is",
                hint="set `cursor` on the resource",
                code="cursor_format",
            )
        return Windows(how, cursor, bound, timezone, self._now())

    def _given(self, resource: Resource) -> GivenNames:
        return given_names(resource, partial(self.beside, resource), self._fetch)

    def _listed(self, resource: Resource, first: Request, reading: Reading) -> Generator[Records, None, None]:
        """The pages of one list; where it is read by windows, with WINDOW_END behind those of each."""
        if reading.windows is None:
            yield from self._fetched(resource, first, reading)
            return
        for request, kept in reading.windows.requests(first):
            for page in self._fetched(resource, request, reading):
                if records := kept(page):
                    yield records
            yield WINDOW_END
