"""Jobs that an API works on by itself, pure: requests go out, answers come in, a clock tells the time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TypeAlias

import msgspec

from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._documents.records import Document, Scalar
from atlas_etl.connectors.http._filled import filled
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._network.failures import without_values
from atlas_etl.connectors.http._settings.prior import JOB_ID, Job
from atlas_etl.errors import SourceError

Waiting: TypeAlias = Generator[Request, Response, None]

_GROWTH = 1.5


def begun(job: Job, first: Request, answer: Response) -> Scalar:
    """The id of the job that `first` began. Raises SourceError (`job_status`)."""
    return _told(_document(answer), job.id, shown(first.url), key="id")


def finished(
    job: Job, job_id: Scalar, first: Request, status: Request, clock: Callable[[], float]
) -> Waiting:
    """Looks at a job until it is done.

    `first` began it, `status` has `{job_id}` in its path, and `clock` tells seconds. Raises SourceError
    (`job_failed`, with the API's own message; `job_deadline`; `job_status`: an answer without state).
    """
    until = clock() + job.deadline.total_seconds()
    where = shown(first.url)
    look = filled(status, {JOB_ID: job_id})
    interval, longest = job.interval.total_seconds(), job.longest_interval.total_seconds()
    while True:
        left = until - clock()
        if left <= 0:
            raise SourceError(
                f"{where}: the job was not done within {job.deadline.total_seconds():,.0f} s",
                hint="ask for less at once, sync later, or raise `deadline` under `job`",
                code="job_deadline",
                retryable=True,
            )
        document = _document((yield replace(look, wait=min(interval, longest, left))))
        state = str(_told(document, job.status, where, key="status"))
        if state in job.done:
            return
        if state in job.failed:
            raise _failed(job, first, state, document)
        interval *= _GROWTH


def limited(job: Job, request: Request, count: int | None) -> Request:
    """The request that begins a job for so many records at most; None: for all."""
    text = "" if count is None or job.limit is None else job.limit.replace("{count}", str(count))
    return filled(request, {"limit": text})


def _document(response: Response) -> Document:
    return Document(response.content, shown(response.url))


def _told(document: Document, path: str, where: str, *, key: str) -> Scalar:
    found = document.find(parse_path(path))
    if found is None or found == "":
        raise SourceError(
            f"{where}: an answer about the job has nothing at {path!r}",
            hint=f"set `{key}` under `job` to where such answers have it",
            code="job_status",
        )
    return found


def _failed(job: Job, first: Request, state: str, document: Document) -> SourceError:
    message = document.find(parse_path(job.message)) if job.message is not None else None
    asked = msgspec.json.encode((first.body, first.params)).decode()
    why = f": {without_values(str(message), asked)}" if message else ", and it says no more"
    return SourceError(
        f"{shown(first.url)}: the job ended as {state}{why}",
        hint="check what the resource asks for; nothing of it was loaded",
        code="job_failed",
    )
