"""Reading an API: which resource a stream means, and the extract of its pages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.base import BaseConnector
from atlas_etl.connectors.declared import declared
from atlas_etl.connectors.http._columns import Columns
from atlas_etl.connectors.http._documents.formats import MEDIA_TYPES
from atlas_etl.connectors.http._examined import of_answers, of_stream
from atlas_etl.connectors.http._first_request import first_request
from atlas_etl.connectors.http._lists import Lists
from atlas_etl.connectors.http._messages import Request, shown
from atlas_etl.connectors.http._network.failures import refusal
from atlas_etl.connectors.http._one_list import pages_of_list
from atlas_etl.connectors.http._outline import caveats, written
from atlas_etl.connectors.http._pages import Pages, Records
from atlas_etl.connectors.http._parents.parent_bounds import ParentRows
from atlas_etl.connectors.http._prior.given import described, schema_given
from atlas_etl.connectors.http._prior.jobs import limited
from atlas_etl.connectors.http._prior.sent import Beside, Jobs
from atlas_etl.connectors.http._reading import Reading
from atlas_etl.connectors.http._rows import HttpRows
from atlas_etl.connectors.http._settings.connection import HttpConnection, Offered, Resource
from atlas_etl.connectors.http._settings.prior import Job
from atlas_etl.connectors.http._transport import Refusal, Transport
from atlas_etl.connectors.http._wire import Network, Wire
from atlas_etl.connectors.rotation import SecretKeeper
from atlas_etl.connectors.row_source import may_grow
from atlas_etl.connectors.unordered import UnorderedExtract
from atlas_etl.errors import WiderColumnsError
from atlas_etl.model import (
    ColumnInfo,
    ConnectionStatus,
    Examination,
    Finding,
    ReadRequest,
    Stream,
    StreamInfo,
)

log = logging.getLogger(__name__)

_DESCRIBED = 1000  # records that a job is begun for where only they tell the columns


class _Unfinished(Struct):
    """Pages of a stream whose columns turned out to be wider than the first of them said."""

    request: ReadRequest
    pages: Pages
    reading: Reading


class HttpConnector(BaseConnector[HttpConnection]):
    """Reads the resources of one API."""

    def __init__(
        self,
        config: HttpConnection,
        *,
        protocol: str = "http",
        refusal: Refusal = refusal,
        wiring: Callable[[HttpConnection], Wire] = Network,
    ) -> None:
        super().__init__(config, protocol=protocol)
        self._wire = wiring(config)
        self._transport = Transport(config, self._wire, refusal)
        self._jobs = Jobs(self._transport, config.base_url, self._job)
        self._lists = Lists(config, fetch=self._transport.fetch, fetched=self._fetched, now=self._wire.now)
        self._unfinished: dict[str, _Unfinished] = {}  # by stream: several may be read at once

    def keep_rotated(self, keeper: SecretKeeper) -> None:
        self._transport.keep_rotated(keeper)

    def remember_in(self, folder: Path) -> None:
        self._jobs.remember_in(folder / "jobs")

    def test(self) -> ConnectionStatus:
        name, resource = next(iter(self.config.resources.items()), ("", self._probe()))
        if not name:
            response = self._transport.fetch(self._request(resource))
            message = f"{shown(response.url)} answered with {response.status}"
            return ConnectionStatus(message, warnings=self._transport.warnings)
        asked = ReadRequest(Stream(name, table=name, cursor=resource.cursor), limit=1)
        reading = self._lists.reading(asked, resource)
        if resource.job is not None and resource.given:  # a job may take hours, and reads all that there is
            return ConnectionStatus(
                f"{name} answered with its description; no job was begun", warnings=self._transport.warnings
            )
        with closing(self._new(asked, reading)) as pages:
            found = next(pages, [])
        message = f"{name} answered, with {len(found):,} records on its first page"
        return ConnectionStatus("; ".join((message, *reading.notes)), warnings=self._transport.warnings)

    def examine(self, examination: Examination) -> Iterator[Finding]:
        yield from of_answers(self._transport.heard)
        for stream in examination.streams:
            resource = self._resource(stream)
            key = stream.primary_key or resource.primary_key
            pagination = resource.pagination or self.config.pagination
            yield from of_stream(stream, key, pagination, is_asked=resource.incremental.is_asked)

    def discover(self) -> Sequence[StreamInfo]:
        return [self.describe(Stream(name, table=name)) for name in self.config.resources]

    def describe(self, stream: Stream) -> StreamInfo:
        resource = self._resource(stream)
        few = _DESCRIBED if resource.job is not None else None
        request = ReadRequest(stream, limit=few, may_read_again=True)
        reading = self._lists.reading(request, resource)
        if resource.job is not None and reading.given.types:
            return described(stream, resource, reading.given.types)
        pages = Pages(self._new(request, reading))
        try:
            rows = self._rows(request, pages, reading)
        finally:
            pages.close()
        return StreamInfo(
            stream.name,
            tuple(
                ColumnInfo(field.name, values.type_name(field.type), rows.nulls_seen(field.name) != 0)
                for field in rows.schema
            ),
            primary_key=stream.primary_key or rows.primary_key,
            cursor_candidates=tuple(
                field.name
                for field in rows.schema
                if rows.nulls_seen(field.name) == 0 and may_grow(field.type)
            ),
            estimated_rows=rows.rows,
        )

    @contextmanager
    def open(self, request: ReadRequest) -> Iterator[UnorderedExtract]:
        name = request.stream.name
        again = self._unfinished.pop(name, None)
        if again is not None and again.request != request:
            again.pages.close()
            again = None
        reading = (
            again.reading
            if again is not None
            else self._lists.reading(request, self._resource(request.stream))
        )
        pages = again.pages if again is not None else Pages(self._new(request, reading))
        try:
            asked = request
            rows = self._rows(request, pages, reading, whole=again is not None)
            if not rows.schema.names:  # no record has ever told what there is to choose from
                asked = ReadRequest(Stream(name, table=request.stream.table))
            yield UnorderedExtract(rows, asked)
        except WiderColumnsError:
            self._unfinished[name] = _Unfinished(request, pages, reading)
            raise
        finally:
            if name not in self._unfinished:
                pages.close()

    def close(self) -> None:
        for left in self._unfinished.values():
            left.pages.close()
        self._unfinished.clear()
        self._jobs.close()
        self._transport.close()

    def stream_of(self, query: str) -> Stream:
        return Stream(name="query", path=query)

    def _rows(self, request: ReadRequest, pages: Pages, reading: Reading, *, whole: bool = False) -> HttpRows:
        resource = self._resource(request.stream)
        where = shown(self._request(resource).url)
        columns = Columns(
            where,
            declared={
                name: declared(kind) for name, kind in {**reading.given.types, **resource.types}.items()
            },
            known=request.known,
            asked={*request.stream.columns, *request.stream.primary_key, *resource.primary_key}
            | ({request.stream.cursor} if request.stream.cursor else set()),
            flatten=(resource.nested or self.config.nested) == "flatten",
        )
        return HttpRows(
            pages,
            columns,
            where=where,
            primary_key=resource.primary_key,
            limit=request.limit,
            warnings=lambda: (*reading.notes, *self._transport.warnings),
            statements=tuple(self._statements(resource, reading)),
            caveats=tuple(
                caveats(
                    resource.pagination or self.config.pagination,
                    has_key=bool(reading.key),
                    has_many_parents=reading.parents is not None
                    and request.since is not None
                    and request.parents is None,
                )
            ),
            is_ordered=resource.incremental.order == "ascending",
            has_windows=reading.windows is not None,
            whole=whole or not request.may_read_again,
            parents=self._parents(request.stream, reading, where),
            schema=schema_given(resource, reading.given.types, request.known)
            if request.only_outline and resource.job is not None
            else None,
            may_change_from=partial(
                reading.time.may_change_from, form=resource.incremental.format, timezone=reading.timezone
            ),
            looked_until=reading.looked.until if reading.looked is not None else lambda _: None,
        )

    def _statements(self, resource: Resource, reading: Reading) -> Iterator[str]:
        """The first request of each list, of parents first."""
        if resource.parent is not None:
            above = self.config.resources[resource.parent.resource]
            bound = reading.since if resource.parent.changed_only else None
            yield from self._statements(above, Reading(since=bound, timezone=reading.timezone))
        first = self._lists.first(resource, reading)
        if reading.windows is not None:
            first, _ = next(iter(reading.windows.requests(first)), (first, None))
        yield written(first, own={*self.config.params, *resource.params})

    def _resource(self, stream: Stream) -> Resource:
        """The resource of a stream; a name that there is none of is a path below the base URL."""
        named = stream.table or stream.path or stream.query or ""
        return self.config.resources.get(named) or self._unnamed(named)

    def _name_of(self, resource: Resource) -> str:
        """The name of one of the connection's own resources."""
        return next(name for name, each in self.config.resources.items() if each is resource)

    def _unnamed(self, name: str) -> Resource:
        """What a stream reads that names no resource."""
        return Resource(path=name)

    def _probe(self) -> Resource:
        """What is asked for to see whether the API answers, where no resource is described."""
        return Resource(path="/")

    def _request(self, resource: Resource) -> Request:
        return first_request(self.config, resource)

    def _parents(self, stream: Stream, reading: Reading, where: str) -> Callable[[], ParentRows] | None:
        if reading.parents is None or stream.cursor is None:
            return None
        appends = not (reading.merges and reading.key)
        above = self._resource(stream).parent
        return partial(
            ParentRows,
            reading.parents,
            stream.cursor,
            where=where,
            appends=appends,
            are_changed=above is not None and above.changed_only,
        )

    def _new(self, request: ReadRequest, reading: Reading) -> Generator[Records, None, None]:
        """The pages of what is new of a stream, as far as its API can tell."""
        resource = self._resource(request.stream)
        if request.only_outline and resource.job is not None:
            return
        yield from self._lists.read(resource, reading)

    def _fetched(
        self, resource: Resource, first: Request, reading: Reading
    ) -> Generator[Records, None, None]:
        """The pages of one list; where a job makes it, `first` begins that job."""
        job = resource.job
        if job is None:
            yield from self._pages_of(resource, first, reading)
            return
        if reading.limit is not None and job.limit is None:
            log.warning("%s: the whole job runs: nothing says how to ask for a few records", shown(first.url))
        beside = partial(self._lists.beside, resource)
        media_type = MEDIA_TYPES[resource.format or self.config.format]
        name = self._name_of(resource)
        first = limited(job, first, reading.limit)
        with self._jobs.results(
            name, job, first, beside, media_type=media_type, notes=reading.notes
        ) as results:
            yield from self._pages_of(resource, results, reading)

    def _job(self, name: str) -> tuple[Job, Beside] | None:
        resource = self.config.resources.get(name)
        if resource is None or resource.job is None:
            return None
        return resource.job, partial(self._lists.beside, resource)

    def _pages_of(
        self, resource: Resource, first: Request, reading: Reading
    ) -> Generator[Records, None, None]:
        return pages_of_list(resource, first, reading, config=self.config, fetch=self._transport.fetch)


def streams_of(resources: Mapping[str, Offered]) -> tuple[Stream, ...]:
    """The streams of a definition that names none: each resource is one."""
    return tuple(
        Stream(name, table=name, cursor=resource.cursor, primary_key=resource.primary_key)
        for name, resource in resources.items()
    )
