"""What is sent before the records of a resource are asked for, and after the last of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from atlas_etl.connectors.http._connection import Resource
from atlas_etl.connectors.http._given import GivenNames, taken
from atlas_etl.connectors.http._jobs import Beginning, finished
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._parents import filled
from atlas_etl.connectors.http._prior_settings import JOB_ID, Job
from atlas_etl.connectors.http._records import Scalar
from atlas_etl.errors import SourceError

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


def results_of(
    job: Job, first: Request, beside: Beside, fetch: Fetch, *, media_type: str
) -> tuple[Request, Request | None]:
    """The first request for a job's results, once it is done, and what removes them. Raises SourceError."""
    ids = {JOB_ID: _ended(finished(job, first, beside(job.status_path), time.monotonic), fetch)}
    removal = None
    if job.delete_path is not None:
        removal = replace(filled(beside(job.delete_path), ids), method="DELETE")
    results = filled(beside(job.results_path), ids)
    preferred = {"Accept": f"{media_type}, */*;q=0.5", **results.headers}
    return replace(results, headers=preferred), removal


def remove(removal: Request, fetch: Fetch, notes: list[str]) -> None:
    """Remove what was read to its end; a failure, of which rows know nothing, is noted once."""
    try:
        fetch(removal)
    except SourceError as failure:
        note = f"results of jobs stay at the API, which did not delete them ({failure.code})"
        if note not in notes:
            notes.append(note)


def _ended(steps: Beginning, fetch: Fetch) -> Scalar:
    try:
        request = next(steps)
        while True:
            request = steps.send(fetch(request))
    except StopIteration as end:
        found: Scalar = end.value
        return found
