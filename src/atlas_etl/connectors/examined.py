"""How protocols judge what they find: clocks, disks and keys, in the same words everywhere."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from atlas_etl.errors import AtlasError, ExitCode
from atlas_etl.model import Disposition, Finding, Severity, Stream

_SKEW = timedelta(seconds=5)  # more than this is no delay of the network
_LITTLE, _MINIMUM = 1024**3, 64 * 1024**2  # bytes of free space


def unmade(check: str, subject: str, failure: AtlasError) -> Finding:
    """A check that could not be made: no finding about what it looks at."""
    return Finding(check, subject, Severity.NOTE, f"could not be looked at: {failure.message}", failure.hint)


def failed(check: str, subject: str, failure: AtlasError) -> Finding:
    """What a sync would fail with."""
    return Finding(check, subject, Severity.PROBLEM, failure.message, failure.hint, failure.exit_code)


def told(finding: Finding) -> str:
    """A finding as a warning of one line."""
    return finding.message if finding.fix is None else f"{finding.message}: {finding.fix}"


def clock(subject: str, told: datetime, before: datetime, after: datetime) -> Finding:
    """What another clock told, between two looks at ours."""
    unsure = (after - before) / 2
    ahead = told - (before + unsure)
    seconds = abs(ahead).total_seconds()
    if seconds <= _SKEW.total_seconds() + unsure.total_seconds():
        return Finding("clock", subject, Severity.OK, "its clock and this machine's agree")
    direction = "ahead of" if ahead > timedelta() else "behind"
    return Finding(
        "clock",
        subject,
        Severity.WARNING,
        f"its clock is {seconds:,.0f} s {direction} this machine's: the schedule, the history and windows of "
        "APIs go by this one, the times in rows by that one",
        "timedatectl set-ntp true    # on the machine whose clock is wrong",
    )


def folder(subject: str, path: Path, *, holds: int = 0) -> Iterator[Finding]:
    """Whether files can be made in a folder, and how much more it takes. `holds`: bytes that are there."""
    there = next(each for each in (path, *path.parents) if each.exists())
    yield _writable(subject, path, there)
    try:
        free = shutil.disk_usage(there).free
    except OSError as failure:
        message = f"the free space of {there} could not be looked at: {failure.strerror}"
        yield Finding("disk_space", subject, Severity.NOTE, message)
        return
    told = f"{_size(free)} are free at {there}"
    if free < _MINIMUM:
        severity, why = Severity.PROBLEM, f"only {told}: loads will fail"
    elif free < holds:
        severity = Severity.WARNING
        why = f"{told}, and {_size(holds)} are there: while they are replaced, both old and new need room"
    elif free < _LITTLE:
        severity, why = Severity.WARNING, f"only {told}"
    else:
        severity, why = Severity.OK, told
    fix = None if severity is Severity.OK else f"df -h {there}    # make room, or choose another `path`"
    yield Finding("disk_space", subject, severity, why, fix, ExitCode.DESTINATION)


def _writable(subject: str, path: Path, there: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as failure:
        return Finding(
            "write_permission",
            subject,
            Severity.PROBLEM,
            f"no file can be made in {there}: {failure.strerror}",
            _opening_up(there, failure),
            ExitCode.DESTINATION,
        )
    more = "" if there == path else f", where {path} will be made"
    return Finding("write_permission", subject, Severity.OK, f"files can be made in {there}{more}")


def _opening_up(folder: Path, failure: OSError) -> str:
    if failure.errno == errno.EROFS:
        return f"findmnt -T {folder}    # mount it for writing, or choose another `path`"
    if failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"df -ih {folder}    # make room, or choose another `path`"
    return f"chown {os.geteuid()} {folder} && chmod u+rwx {folder}    # or choose another `path`"


def no_key(stream: Stream, proposed: Sequence[str] = (), *, is_clocked: bool = True) -> Finding:
    """A stream whose rows nothing tells apart. `is_clocked`: rows that change come again by its cursor."""
    name = stream.name
    key = ", ".join(proposed)
    fix = f"primary_key: [{key}]" if key else "primary_key: [COLUMN]    # those that tell rows apart"
    if stream.disposition is Disposition.MERGE:
        return Finding(
            "primary_key", name, Severity.PROBLEM, "merges need a primary key and there is none", fix,
            ExitCode.DATA,
        )  # fmt: skip
    if stream.cursor is None or stream.disposition is Disposition.REPLACE:
        return Finding(
            "primary_key",
            name,
            Severity.OK,
            "there is none, and none is needed: every load replaces all rows",
        )
    if not is_clocked:
        return Finding(
            "primary_key", name, Severity.NOTE,
            "there is none: loads append, which is right for rows that never change", fix,
        )  # fmt: skip
    return Finding(
        "primary_key", name, Severity.WARNING,
        "there is none, so loads append: a row that changes is added once more, and its old state stays", fix,
    )  # fmt: skip


def _size(count: int) -> str:
    size, units = float(count), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while size >= 1024 and unit != "TiB":
        size, unit = size / 1024, next(units)
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
