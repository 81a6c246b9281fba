"""Tables copied from one end to another by a command line alone: what a definition would say, made of it.

Everything that has to last is at the destination: checkpoint, ledger and fence. The state store of such a run
is in memory, so nothing else is written anywhere.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatchcase

from msgspec import Struct
from pydantic import ValidationError

from atlas_etl.api.ends import End
from atlas_etl.api.sync import SyncJob, sync_all
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.fields import check_name
from atlas_etl.config.problems import config_error
from atlas_etl.config.stream import StreamDefinition
from atlas_etl.errors import UsageError, nearest
from atlas_etl.model import Disposition
from atlas_etl.pipeline.events import Event
from atlas_etl.state.open import open_state_store

_OWN = "_atlas_"


class Wanted(Struct, frozen=True):
    """What is copied, and where to; `tables` may have patterns, and be empty where the source is files."""

    tables: Sequence[str] = ()
    query: str | None = None
    cursor: str | None = None
    primary_key: Sequence[str] = ()
    disposition: Disposition | None = None
    schema: str | None = None  # of the destination
    into: str | None = None  # table of the destination; of one table or query only
    name: str | None = None  # what the destination remembers the source as


def copy_job(source: End, target: End, wanted: Wanted, *, full_refresh: bool = False) -> SyncJob:
    """The copy as a connector's sync, validated.

    Raises ConfigError and UsageError; and, for patterns, SourceError.
    """
    if wanted.query is not None and (wanted.tables or wanted.into is None):
        raise UsageError(
            "--query reads rows that have no name of their own",
            hint="give --into TABLE, and no --table",
        )
    name = _checked(wanted.name) if wanted.name else source.name
    streams = [*_streams(source, target, wanted)]
    connector = source.as_source(
        ConnectorDefinition(name=name, protocol=source.protocol, streams=tuple(streams))
    )
    return SyncJob(
        connector,
        target.as_destination().to_load_into(),
        connector.chosen(()),
        triggered_by="copy",
        full_refresh=full_refresh,
    )


def run_once(jobs: Sequence[SyncJob], *, side_by_side: int = 1) -> Generator[Event, None, None]:
    """Run jobs whose state is only at their destination; each ends with its RunFinished."""
    with closing(open_state_store(":memory:")) as store:
        yield from sync_all(jobs, store, side_by_side=side_by_side)


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise UsageError(f"--name: {error}") from None


def _streams(source: End, target: End, wanted: Wanted) -> Iterator[StreamDefinition]:
    """What is read, each with the table that it lands in. Raises UsageError where two land in one."""
    details = {
        "cursor": wanted.cursor,
        "primary_key": [*wanted.primary_key] or None,
        "disposition": wanted.disposition,
    }
    found = [*_read(source, wanted)]
    if wanted.into is not None and len(found) > 1:
        raise UsageError(f"--into names one table, and {len(found)} are read", hint="use --schema")
    schema, _, table = (wanted.into or "").rpartition(".")
    landing: dict[str, str] = {}
    for reads in found:
        stream = validated({**details, **reads})
        into = {
            "schema": schema or wanted.schema or target.home() or source.label,
            "table": table or stream.name,
        }
        name = str(reads.get("table") or stream.name)
        other = landing.setdefault(target.table_id(into["table"]), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} would land in one table, {into['table']}",
                hint="copy them by two commands, with a --schema or an --into each",
            )
        yield validated({**details, **reads, "name": name, "into": into})


def validated(values: Mapping[str, object]) -> StreamDefinition:
    """A stream as flags describe it. Raises ConfigError."""
    try:
        return StreamDefinition.model_validate(values)
    except ValidationError as error:
        raise config_error(error, StreamDefinition, values, lambda _path: "the command line") from None


def _read(source: End, wanted: Wanted) -> Iterator[Mapping[str, object]]:
    if wanted.query is not None:
        yield {"name": wanted.into, "query": wanted.query}
        return
    offered = source.adapter.default_streams(source.config)
    if not wanted.tables and not offered:
        raise UsageError(
            "no table was named",
            hint="give --table, which may be repeated and hold * and ?; --table '*' copies every table",
        )
    if not wanted.tables:
        yield from ({"name": stream.name, "path": stream.path} for stream in offered)
        return
    patterns = [table for table in wanted.tables if "*" in table or "?" in table]
    there = _discovered(source) if patterns else []
    for table in dict.fromkeys(wanted.tables):
        if table not in patterns:
            yield {"table": table}
            continue
        matching = [name for name in there if fnmatchcase(name, table)]
        if not matching:
            raise UsageError(
                f"no table of the source matches {table!r}",
                hint=nearest(table, there) or f"it has {', '.join(there[:20]) or 'none'}",
            )
        yield from ({"table": name} for name in matching if name not in wanted.tables)


def _discovered(source: End) -> list[str]:
    connector = source.as_source(ConnectorDefinition(name=source.name, protocol=source.protocol))
    with closing(connector.open()) as opened:
        names = [stream.name for stream in opened.discover()]
    return sorted(name for name in names if not name.rpartition(".")[2].startswith(_OWN))
