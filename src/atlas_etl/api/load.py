"""Files loaded into a table by a command line alone: added to it once each, or merged by a key.

A file's bytes are what tells it from others: their digest is the load's id in the destination's ledger,
committed with the rows. So the same command again, after a failure or by mistake, adds nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from uuid import uuid4

from msgspec import Struct, field
from msgspec.structs import replace

from atlas_etl.api.copy import run_once, validated
from atlas_etl.api.ends import End
from atlas_etl.api.inputs import Input
from atlas_etl.api.sync import SyncJob
from atlas_etl.config.connection import validate_connection
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.layers import Layer, LayerKind, Origin, merge
from atlas_etl.config.references import ReferenceContext
from atlas_etl.connectors import registry
from atlas_etl.errors import UsageError
from atlas_etl.model import Disposition
from atlas_etl.pipeline.events import Event, StreamRead

NAME = "load"  # the connector, in the destination's ledger


class Landing(Struct, frozen=True):
    """Where files are loaded, and how they meet what is there."""

    table: str  # with its schema before a dot, where it is not the system's own
    primary_key: Sequence[str] = ()
    disposition: Disposition | None = None  # None: merge by the key, append without one
    again: bool = False  # whether what was loaded before is added once more
    settings: Mapping[str, object] = field(default_factory=dict)  # of the format, as a connection has them


def load_jobs(
    inputs: Sequence[Input], target: End, landing: Landing, context: ReferenceContext
) -> list[SyncJob]:
    """One job for each file, in their order, validated. Raises ConfigError and UsageError."""
    disposition = landing.disposition or (Disposition.MERGE if landing.primary_key else Disposition.APPEND)
    if disposition is Disposition.REPLACE and len(inputs) > 1:
        raise UsageError("each file would replace the one before", hint="replace with one file, then append")
    schema, _, table = landing.table.rpartition(".")
    home = target.home() or NAME
    named = landing.table if target.adapter.has_schemas else table
    stream = {
        "name": target.table_id(named, NAME),  # one stream, however the table is named
        "path": "input",
        "primary_key": [*landing.primary_key],
        "disposition": disposition,
        "into": {"schema": schema or home, "table": table},
    }
    return [_job(each, target, stream, landing, context) for each in inputs]


def _job(
    found: Input, target: End, stream: Mapping[str, object], landing: Landing, context: ReferenceContext
) -> SyncJob:
    adapter = registry.load(found.protocol)
    origin = Origin(LayerKind.OVERRIDE, variable=found.called)
    layered = merge([Layer({**landing.settings, "path": str(found.path)}, lambda _path: origin)])
    config = validate_connection(adapter.connection, layered, context, file=found.called, below=())
    definition = ConnectorDefinition(
        name=NAME, protocol=found.protocol, streams=(validated({**stream, "path": str(found.path)}),)
    )
    connector = End(found.protocol, adapter, config, shows_secret=False).as_source(definition)
    (reads,) = connector.chosen(())
    if reads.disposition is Disposition.APPEND:
        reads = replace(reads, load_id=str(uuid4()) if landing.again else _load_id(found, landing.settings))
    return SyncJob(connector, target.as_destination().to_load_into(), (reads,), triggered_by=NAME)


def _load_id(found: Input, settings: Mapping[str, object]) -> str:
    """The same for the same bytes that are read in the same way."""
    if not settings:
        return f"sha256:{found.digest}"
    read_so = json.dumps(settings, sort_keys=True, default=str)
    return f"sha256:{sha256(f'{found.digest} {read_so}'.encode()).hexdigest()}"


def load(inputs: Sequence[Input], jobs: Sequence[SyncJob]) -> Generator[Event, None, None]:
    """Load each file in a commit of its own, one after another; each ends with its RunFinished.

    Raises SourceError where a file changed meanwhile, having undone what was loaded of it.
    """
    with closing(run_once(jobs)) as events:
        for event in events:
            if isinstance(event, StreamRead):
                for each in inputs:
                    each.refuse_change()
            yield event
