"""Looking closely at what the SQL writer writes to: rights, limits, room, and the keys that merges need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from atlas_etl.connectors.examined import failed, unmade
from atlas_etl.connectors.sql._examined_target_key import examined_merge
from atlas_etl.connectors.sql._look import TableLook
from atlas_etl.errors import AtlasError
from atlas_etl.model import Disposition, Examination, Finding, Severity, Stream, TableName


class TargetLook(Protocol):
    """How one system is looked into that is written to. Raises DestinationError."""

    def system(self, sessions: int) -> Iterator[Finding]:
        """What holds for all tables: replication, clock, limits, room. `sessions`: wanted at once."""

    def table(self, table: TableName) -> Iterator[Finding]:
        """Whether loads may make or change this one."""

    def tables(self) -> AbstractContextManager[TableLook] | None:
        """Open what looks into its tables; None where nothing can, or nothing is there yet."""


def examined_target(
    look: TargetLook,
    examination: Examination,
    table_of: Callable[[str, Stream], TableName],
    column_of: Callable[[str], str],
) -> Iterator[Finding]:
    """Everything that one system tells of where these streams land, under which names."""
    try:
        yield from look.system(examination.loads)
    except AtlasError as failure:
        yield unmade("server", "destination", failure)
    for stream in examination.streams:
        try:
            table = table_of(examination.connector, stream)
        except AtlasError as failure:
            yield failed("table", stream.name, failure)
            continue
        try:
            yield from look.table(table)
        except AtlasError as failure:
            yield unmade("write_permission", f"destination {table}", failure)
        if stream.disposition is Disposition.MERGE and stream.primary_key:
            key = tuple(map(column_of, stream.primary_key))
            yield from _merge(look, examination.connector, stream, table, key)


def _merge(
    look: TargetLook, connector: str, stream: Stream, table: TableName, key: tuple[str, ...]
) -> Iterator[Finding]:
    looking = look.tables()
    if looking is None:
        return
    try:
        with looking as tables:
            yield from examined_merge(tables, connector, stream.name, table, key)
    except AtlasError as failure:
        yield unmade("merge_key", f"destination {table}", failure)


def sessions_left(subject: str, wanted: int, limit: int, used: int, *, whose: str, raising: str) -> Finding:
    """Whether a limit of sessions leaves room. `used`: those of others; `raising`: the statement for more."""
    left, told = max(0, limit - used), f"{whose} allows {limit:,} sessions"
    wants = f"a sync wants {wanted:,} at once"
    fix = f"{raising}    -- or sync with fewer --jobs or `partitions`"
    if wanted > limit:
        return Finding("connections", subject, Severity.PROBLEM, f"{told}, and {wants}", fix)
    if wanted > left:
        message = f"{told} and others have {used:,}, so {left:,} are left, and {wants}"
        return Finding("connections", subject, Severity.WARNING, message, fix)
    return Finding("connections", subject, Severity.OK, f"{told}, {left:,} are left, and {wants}")
