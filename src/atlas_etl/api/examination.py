"""A close look at both ends of a connector and at its state: what makes syncs slow, weak or impossible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.api.atlas import Atlas, TestOutcome
from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.api.state_location import state_location
from atlas_etl.connectors import examined
from atlas_etl.contracts import ExaminedDestination, ExaminedSource
from atlas_etl.errors import AtlasError, ConfigError, ExitCode
from atlas_etl.model import ConnectionStatus, Examination, Finding, Severity, Stream
from atlas_etl.pipeline.plan import disposition_of
from atlas_etl.state.open import look_at_state
from atlas_etl.state.schema import SCHEMA_VERSION


class Examined(Struct, frozen=True):
    """What a test of a connector found, and what a close look at it did."""

    outcome: TestOutcome
    findings: tuple[Finding, ...]


def examine_connector(atlas: Atlas, name: str, *, streams: Sequence[str] = (), jobs: int = 1) -> Examined:
    """Test a connector and look at both ends of these streams, all without names, `jobs` of them at once.

    An end that cannot be reached is a finding. Raises ConfigError and UsageError.
    """
    prepared = atlas.connector(name)
    destination = atlas.destination(prepared.definition.destination)
    chosen = prepared.chosen(tuple(streams)) if streams or prepared.streams() else ()
    asked = Examination(name, chosen, jobs)
    outcome, found = _source(prepared, asked)
    loaded = replace(asked, streams=tuple(_loaded(chosen, found)))
    return Examined(
        outcome, (*_nothing_read(asked), *found, *_destination(destination, loaded), *_state(atlas))
    )


def _nothing_read(asked: Examination) -> Iterator[Finding]:
    if not asked.streams:
        fix = f"atlas connector discover {asked.connector}    # lists the tables that `streams` may name"
        yield Finding("streams", "source", Severity.WARNING, "the definition names nothing to read", fix)


def _source(prepared: PreparedConnector, asked: Examination) -> tuple[TestOutcome, list[Finding]]:
    started = perf_counter()
    status, error, took = None, None, 0.0
    found: list[Finding] = []
    try:
        with closing(prepared.open()) as connector:
            status = connector.test()
            took = (perf_counter() - started) * 1000
            if isinstance(connector, ExaminedSource):
                found += connector.examine(asked)
    except AtlasError as failure:
        error = failure.located(connector=prepared.name) if status is None else None
        found.append(examined.failed("connection", "source", failure))
    if status is not None:
        found = [*_of_test(status, found), *found]
    return TestOutcome(prepared.name, status, error, took or (perf_counter() - started) * 1000), found


def _loaded(streams: Iterable[Stream], found: Iterable[Finding]) -> Iterator[Stream]:
    """The streams with the key and the disposition of their loads, as far as the source was found to tell."""
    keys = {each.subject: each.key for each in found if each.key}
    for stream in streams:
        key = stream.primary_key or keys.get(stream.name, ())
        try:
            yield replace(stream, primary_key=key, disposition=disposition_of(stream, key))
        except ConfigError:  # a merge without a key, which is a finding of the source
            yield stream


def _of_test(status: ConnectionStatus, found: Sequence[Finding]) -> Iterator[Finding]:
    """What the test told; a warning that another finding tells with its fix is told once."""
    version = f", {status.server_version}" if status.server_version else ""
    yield Finding("connection", "source", Severity.OK, f"{status.message}{version}")
    known = {examined.told(each) for each in found}
    for warning in status.warnings:
        if warning not in known:
            yield Finding("connection", "source", Severity.WARNING, warning)


def _destination(prepared: PreparedDestination, asked: Examination) -> Iterator[Finding]:
    found: list[Finding] = []
    try:
        with closing(prepared.open()) as destination:
            if isinstance(destination, ExaminedDestination):
                found += destination.examine(asked)
            else:
                message = f"nothing of {prepared.protocol} destinations can be looked at"
                found.append(Finding("server", "destination", Severity.NOTE, message))
    except AtlasError as failure:
        found.append(examined.failed("connection", "destination", failure))
    return iter(found)


def _state(atlas: Atlas) -> Iterator[Finding]:
    location = state_location(atlas.project)
    if isinstance(location, Path):
        yield from examined.folder("state", location.parent)
    try:
        if not atlas.has_state():
            return
        with closing(look_at_state(location)) as look:
            yield from _state_version(look.version())
            before = datetime.now(UTC)
            told = look.time()
            yield examined.clock("state", told, before, datetime.now(UTC))
    except AtlasError as failure:
        yield examined.failed("connection", "state", failure)


def _state_version(version: int) -> Iterator[Finding]:
    if version == 0:
        message = "it has no tables yet: the first sync makes them"
        yield Finding("version", "state", Severity.NOTE, message)
    elif version < SCHEMA_VERSION:
        message = (
            f"it has version {version}: the next sync upgrades it to {SCHEMA_VERSION}, and then older "
            "installations of atlas-etl cannot use it"
        )
        yield Finding(
            "version", "state", Severity.NOTE, message, "pip install -U atlas-etl    # on every host"
        )
    elif version > SCHEMA_VERSION:
        message = f"it has version {version}, and this atlas-etl knows versions up to {SCHEMA_VERSION}"
        fix = "pip install -U atlas-etl"
        yield Finding("version", "state", Severity.PROBLEM, message, fix, ExitCode.DESTINATION)
