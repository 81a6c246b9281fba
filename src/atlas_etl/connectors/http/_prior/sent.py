"""What is sent before the records of a resource are asked for, and after the last of them."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.connectors.http._documents.records import Scalar
from atlas_etl.connectors.http._filled import filled
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._network.failures import may_pass
from atlas_etl.connectors.http._prior.given import GivenNames, taken
from atlas_etl.connectors.http._prior.jobs import Waiting, begun, finished
from atlas_etl.connectors.http._prior.left_jobs import BegunJob, JobNotes
from atlas_etl.connectors.http._settings.connection import Resource
from atlas_etl.connectors.http._settings.prior import JOB_ID, Job
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


class _Left(Struct, frozen=True):
    """What an API still has of a job, and the requests that rid it of that."""

    abort: Request | None
    removal: Request | None
    noted: BegunJob | None = None


def _left(job: Job, job_id: Scalar, beside: Beside) -> _Left:
    ids = {JOB_ID: job_id}
    abort = removal = None
    if job.abort is not None:
        stop = dataclasses.replace(
            beside(job.abort.path), method=job.abort.method, body=template_body(job.abort.body)
        )
        abort = filled(stop, ids)
    if job.delete_path is not None:
        removal = dataclasses.replace(filled(beside(job.delete_path), ids), method="DELETE")
    return _Left(abort, removal)


class Jobs:
    """The jobs that one connector began. Each that is left is aborted, and its results are deleted, once."""

    def __init__(
        self, transport: Transport, base_url: str, find: Callable[[str], tuple[Job, Beside] | None]
    ) -> None:
        """`find` gives the job of a resource by its name, where there is one."""
        self._transport = transport
        self._base_url = base_url
        self._find = find
        self._lock = threading.Lock()
        self._left: dict[object, _Left] = {}
        self._notes: JobNotes | None = None
        self._has_looked = False

    def remember_in(self, folder: Path) -> None:
        """Note jobs there, and rid the API of those that a process left which was killed."""
        self._notes = JobNotes(folder)

    @contextmanager
    def results(
        self, name: str, job: Job, first: Request, beside: Beside, *, media_type: str, notes: list[str]
    ) -> Iterator[Request]:
        """Begins the job of the resource of this name; once it is done, gives the first request for results.

        Raises SourceError.
        """
        self._rid_of_dead(notes)
        fetch, mark = self._transport.fetch, object()
        job_id = begun(job, first, fetch(first))
        left = _left(job, job_id, beside)
        if self._notes is not None and (left.abort or left.removal):
            left = replace(left, noted=self._notes.begun(self._base_url, name, job_id))
        self._left[mark] = left
        try:
            _wait(finished(job, job_id, first, beside(job.status_path), time.monotonic), fetch)
            self._left[mark] = replace(left, abort=None)
            results = filled(beside(job.results_path), {JOB_ID: job_id})
            preferred = {"Accept": f"{media_type}, */*;q=0.5", **results.headers}
            yield dataclasses.replace(results, headers=preferred)
        except SourceError as failure:
            if failure.code == "job_failed":
                self._left[mark] = replace(left, abort=None)
            raise
        finally:
            if (note := self._rid(mark)) is not None and note not in notes:
                notes.append(note)

    def close(self) -> None:
        """Rid the API of jobs whose read was given up."""
        for mark in list(self._left):
            if (note := self._rid(mark)) is not None:
                log.warning("%s", note)
        if self._notes is not None:
            self._notes.close()

    def _rid(self, mark: object) -> str | None:
        """What a person should know where the API did not take it: rows know nothing of it."""
        with self._lock:
            left = self._left.pop(mark, None)
        if left is None:
            return None
        failure = self._sent(left)
        if left.noted is not None and self._notes is not None and not may_pass(failure):
            self._notes.over(left.noted)
        if failure is None:
            return None
        return f"results of jobs stay at the API, which did not delete them ({failure.code})"

    def _sent(self, left: _Left) -> SourceError | None:
        """Why the last of these requests was not taken: what is deleted need not be aborted, too."""
        refused = None
        for request in (left.abort, left.removal):
            try:
                if request is not None:
                    self._transport.fetch_once(request)
                    refused = None
            except SourceError as failure:
                refused = failure
        return refused

    def _rid_of_dead(self, notes: list[str]) -> None:
        """Once, and before a job is begun: so the API is one that answers."""
        with self._lock:
            has_looked, self._has_looked = self._has_looked, True
        if has_looked or self._notes is None:
            return

        def is_rid_of(job: BegunJob) -> bool:
            found = self._find(job.resource) if job.base_url == self._base_url else None
            if found is None:
                return False
            failure = self._sent(_left(found[0], job.job_id, found[1]))
            if failure is None:
                notes.append(f"a job of {job.resource} that a killed run left at the API was ended")
            return not may_pass(failure)

        self._notes.take_over(is_rid_of)


def _wait(steps: Waiting, fetch: Fetch) -> None:
    try:
        request = next(steps)
        while True:
            request = steps.send(fetch(request))
    except StopIteration:
        return
