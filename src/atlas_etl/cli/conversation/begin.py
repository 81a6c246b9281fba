"""Where a conversation begins: what flags say and the project offers, and what comes of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.draft import Draft, DraftedConnectors
from atlas_etl.cli.connector_settings import Flags, assignments, put, tell_what_is_kept, tell_what_was_seen
from atlas_etl.cli.conversation.steps import Choice
from atlas_etl.cli.conversation.tables import Wanted
from atlas_etl.cli.conversation.talk import Given, Surroundings, ask_all, ask_kind
from atlas_etl.cli.conversation.terminal import breaking_off, talk
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.output import Output
from atlas_etl.cli.session import Session
from atlas_etl.config.definitions import check_free
from atlas_etl.config.yaml_source import Value
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, ConfigError, InterruptedRunError


def can_converse(output: Output) -> bool:
    """Whether a person is there to be asked, and to see the answer."""
    return not output.as_json and all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def begin(session: Session, command: str, name: str | None, flags: Flags, *, tests: bool) -> Draft:
    """What the person wants written. Raises InterruptedRunError where that is nothing, and AtlasError."""
    if name is not None:
        check_free(session.project, name)
    protocol = registry.canonical(flags.protocol) if flags.protocol is not None else None
    atlas = open_atlas(session, command)
    around, drafts = _surroundings(atlas), DraftedConnectors(atlas)
    try:
        with breaking_off():
            kind = talk(ask_kind(name, protocol, around), drafts)
            assigned, secrets = assignments(flags.settings, kind.name, kind.model)
            tell_what_was_seen(session, flags.settings, secrets)
            values: dict[str, Value] = {}
            for at, value in assigned.items():
                put(values, at, value)
            connection = values.pop("connection", {})
            wanted = Wanted(tuple(flags.tables), flags.cursor, tuple(flags.primary_key), flags.disposition)
            given = Given(
                connection if isinstance(connection, dict) else {},
                secrets,
                {**values, **flags.others},
                wanted,
                tuple(flags.streams(kind.name)) if flags.query is not None else (),
                tests,
            )
            draft = talk(ask_all(kind, given, around), drafts)
        if draft is None:
            raise InterruptedRunError("nothing was written")
    except AtlasError:
        tell_what_is_kept(session.output, {each: each for each in drafts.keep_replaced()})
        raise
    return draft


def _surroundings(atlas: Atlas) -> Surroundings:
    project = atlas.project

    def defaults(protocol: str) -> Mapping[str, object]:
        return project.defaults(protocol).values

    def check_name(name: str) -> str:
        try:
            check_free(project.folder, name)
        except ConfigError as wrong:
            raise ValueError(wrong.message) from None
        return name

    return Surroundings(
        tuple(
            Choice(info.protocol, info.summary, info.aliases) for info in registry.protocols() if info.reads
        ),
        tuple(Choice(name, project.destination(name).protocol) for name in project.settings.destinations),
        project.destination_name(),
        project.settings.timezone,
        defaults,
        check_name,
        datetime.now(UTC),
    )
