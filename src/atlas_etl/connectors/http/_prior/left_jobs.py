"""Jobs that a process which was killed left at an API: it had noted them in a file, locked while it lived.

What begins a job cannot be named at every API, so that a job is known by its id alone, from its answer on. No
request is in the file, which may hold credentials: it is made of the definition again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec

from atlas_etl.connectors.http._documents.records import Scalar

log = logging.getLogger(__name__)

_FORGOTTEN = timedelta(days=7)  # after which APIs have thrown results away by themselves


class BegunJob(msgspec.Struct, frozen=True):
    """A job, and the resource of the API that began it."""

    base_url: str
    resource: str
    job_id: Scalar
    begun_at: datetime


class _Line(msgspec.Struct):
    job: BegunJob
    is_over: bool = False


class JobNotes:
    """The jobs that the processes of one project began. For several threads.

    Where they cannot be noted, for the disk is full or read-only, jobs are begun all the same.
    """

    def __init__(self, folder: Path) -> None:
        """The folder is made when the first job is begun."""
        self._folder = folder
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._opened = -1
        self._going_on: set[BegunJob] = set()

    def begun(self, base_url: str, resource: str, job_id: Scalar) -> BegunJob:
        """Note a job, durably."""
        job = BegunJob(base_url, resource, job_id, datetime.now(UTC))
        with self._lock:
            self._going_on.add(job)
            try:
                if self._file is None:
                    self._begin_file()
                os.write(self._opened, _written(_Line(job)))
                os.fsync(self._opened)
            except OSError as failure:
                log.warning("a job of an API could not be noted: %s", failure.strerror)
        return job

    def over(self, job: BegunJob) -> None:
        """Nothing is left of it."""
        with self._lock:
            self._going_on.discard(job)
            try:
                if self._file is not None:
                    os.write(self._opened, _written(_Line(job, is_over=True)))
            except OSError as failure:
                log.warning("a job of an API could not be noted: %s", failure.strerror)

    def take_over(self, is_rid_of: Callable[[BegunJob], bool]) -> None:
        """Ask of each job that a dead process left whether it is gone now; those that are not stay noted."""
        try:
            files = sorted(self._folder.glob("*.jsonl"))
        except OSError:
            return
        for file in files:
            try:
                self._take_over(file, is_rid_of)
            except OSError as failure:
                log.debug("%s: %s", file.name, failure.strerror)

    def close(self) -> None:
        """Forget this process's file, where nothing is left."""
        with self._lock:
            if self._file is None:
                return
            if not self._going_on:
                self._file.unlink(missing_ok=True)
            os.close(self._opened)
            self._file = None

    def _begin_file(self) -> None:
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / ".gitignore").write_text("*\n")
        while self._file is None:
            file = self._folder / f"{uuid4().hex}.jsonl"
            opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(opened, fcntl.LOCK_EX)
            if os.fstat(opened).st_nlink:  # nobody took it for a dead process's in between
                self._file, self._opened = file, opened
            else:
                os.close(opened)

    @staticmethod
    def _take_over(file: Path, is_rid_of: Callable[[BegunJob], bool]) -> None:
        opened = os.open(file, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            jobs = _going_on(os.pread(opened, os.fstat(opened).st_size, 0).splitlines())
            oldest = datetime.now(UTC) - _FORGOTTEN
            left = [job for job in jobs if job.begun_at > oldest and not is_rid_of(job)]
            if not left:
                file.unlink(missing_ok=True)
                return
            for job in jobs:
                if job not in left:
                    os.write(opened, b"\n" + _written(_Line(job, is_over=True)))  # its last line may be cut
        except BlockingIOError:
            return  # its process lives
        finally:
            os.close(opened)


def _written(line: _Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _going_on(lines: Iterable[bytes]) -> list[BegunJob]:
    found: dict[BegunJob, None] = {}
    for line in lines:
        try:
            noted = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError:
            continue  # its process was killed while it wrote
        if noted.is_over:
            found.pop(noted.job, None)
        else:
            found[noted.job] = None
    return list(found)
