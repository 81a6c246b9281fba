"""What is sent before the records of a resource are asked for, and after the last of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from atlas_etl.connectors.http._connection import Resource
from atlas_etl.connectors.http._given import GivenNames, taken
from atlas_etl.connectors.http._jobs import Waiting, begun, finished
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._parents import filled
from atlas_etl.connectors.http._prior_settings import JOB_ID, Job
from atlas_etl.connectors.http._templates import template_body
from atlas_etl.connectors.http._transport import Transport
from atlas_etl.errors import SourceError

log = logging.getLogger(__name__)

Fetch: TypeAlias = Callable[[Request], Response]
Beside: TypeAlias = Callable[[str], Request]  # the request for a path that belongs to a resource


def given_names(resource: Resource, beside: Beside, fetch: Fetch) -> GivenNames:
    """What other answers give to a resource's request. Raises SourceError."""
    texts: dict[str, str] = {}
    types: dict[str, str] = {}
    for name, how in resource.given.items():
        response = fetch(beside(how.path))
        texts[name], more = taken(how, response.content, shown(response.url))
        types |= more
    return GivenNames(texts, types)


@dataclass(frozen=True, slots=True)
class _Left:
    """What an API still has of a job, and the requests that rid it of that."""

    abort: Request | None
    removal: Request | None


class Jobs:
    """The jobs that one connector began. Each that is left is aborted, and its results are deleted, once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._left: dict[object, _Left] = {}

    @contextmanager
    def results(
        self, job: Job, first: Request, beside: Beside, *, media_type: str, notes: list[str]
    ) -> Iterator[Request]:
        """Begins a job; gives the first request for its results, once it is done. Raises SourceError."""
        fetch, mark = self._transport.fetch, object()
        job_id = begun(job, first, fetch(first))
        ids = {JOB_ID: job_id}
        abort = removal = None
        if job.abort is not None:
            stop = replace(
                beside(job.abort.path), method=job.abort.method, body=template_body(job.abort.body)
            )
            abort = filled(stop, ids)
        if job.delete_path is not None:
            removal = replace(filled(beside(job.delete_path), ids), method="DELETE")
        self._left[mark] = _Left(abort, removal)
        try:
            _wait(finished(job, job_id, first, beside(job.status_path), time.monotonic), fetch)
            self._left[mark] = _Left(None, removal)
            results = filled(beside(job.results_path), ids)
            preferred = {"Accept": f"{media_type}, */*;q=0.5", **results.headers}
            yield replace(results, headers=preferred)
        except SourceError as failure:
            if failure.code == "job_failed":
                self._left[mark] = _Left(None, removal)
            raise
        finally:
            if (note := self._rid(mark)) is not None and note not in notes:
                notes.append(note)

    def close(self) -> None:
        """Rid the API of jobs whose read was given up."""
        for mark in list(self._left):
            if (note := self._rid(mark)) is not None:
                log.warning("%s", note)

    def _rid(self, mark: object) -> str | None:
        """What a person should know where the API did not take it: rows know nothing of it."""
        with self._lock:
            left = self._left.pop(mark, None)
        requests = (left.abort, left.removal) if left is not None else ()
        note = None
        for request in requests:
            try:
                if request is not None:
                    self._transport.fetch_once(request)
            except SourceError as failure:
                note = f"results of jobs stay at the API, which did not delete them ({failure.code})"
        return note


def _wait(steps: Waiting, fetch: Fetch) -> None:
    try:
        request = next(steps)
        while True:
            request = steps.send(fetch(request))
    except StopIteration:
        return
