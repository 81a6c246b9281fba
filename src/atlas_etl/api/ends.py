"""Both ends of a copy, each named by a URI or a path: no definition, no project."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.api.secrets import with_lookups
from atlas_etl.config.connection import validate_connection
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.layers import Layer, LayerKind, Origin, merge
from atlas_etl.config.project import load_project
from atlas_etl.config.references import KINDS, ReferenceContext, expand_uri, holds_reference
from atlas_etl.config.uri import parse_location
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import Adapter, ConnectionConfig
from atlas_etl.errors import ConfigError, UsageError
from atlas_etl.state.holder import this_actor

_ADDRESS = ("host", "port", "database", "username", "unix_socket", "path")
_BESIDE = ("sid", "dsn")  # what some systems have in the place of those
_LABEL_LENGTH = 48


@dataclass(frozen=True)
class End:
    """What a URI or a path names, validated; nothing is opened yet."""

    protocol: str
    adapter: Adapter[Any] = field(repr=False)
    config: ConnectionConfig = field(repr=False)
    shows_secret: bool  # whether a secret was written out where others may see it

    @property
    def label(self) -> str:
        """The database's or the file's own name."""
        path = getattr(self.config, "path", None)
        return str(getattr(self.config, "database", None) or (path and Path(path).stem) or self.protocol)

    @property
    def name(self) -> str:
        """A connector's name that is the same wherever the address is: the label and a hash of the address.

        The account is part of it, for it may be what decides which table is found by a name.
        """
        parts = [(name, _spelt(getattr(self.config, name, None))) for name in _ADDRESS]
        parts += [(name, str(given)) for name in _BESIDE if (given := getattr(self.config, name, None))]
        options = getattr(self.config, "options", None)
        found = options.get("search_path") if isinstance(options, Mapping) else None
        digest = hashlib.sha256(repr((self.protocol, parts, found)).encode()).hexdigest()[:10]
        label = re.sub(r"[^A-Za-z0-9]+", "-", self.label)[:_LABEL_LENGTH].strip("-")
        return f"{label if label[:1].isalpha() else f'{self.protocol}-{label}'.strip('-')}-{digest}"

    def home(self) -> str | None:
        """The schema of tables that are named without one; None where the system has no such."""
        schema: str | None = self.adapter.home(self.config)
        return schema

    def table_id(self, text: str, home: str | None = None) -> str:
        """The same for each way in which a table may be named; tables without a schema are in `home`.

        Raises AtlasError where the system has to be asked, and cannot be.
        """
        home = self.home() or home
        named = f"{home}.{text}" if home and "." not in text else text
        is_small = named == named.lower()
        return (named if is_small else self._folded(named)).removeprefix(f"{home}.")

    @cached_property
    def _folded(self) -> Callable[[str], str]:
        return self.adapter.table_folding(self.config)

    def as_source(self, definition: ConnectorDefinition) -> PreparedConnector:
        return PreparedConnector(definition, self.protocol, self.adapter, self.config)

    def as_destination(self) -> PreparedDestination:
        return PreparedDestination(f"{self.protocol} {self.label}", self.protocol, self.adapter, self.config)


def _spelt(part: object) -> str:
    """A part of an address, the same for each path to one file's folder."""
    return str(part.parent.resolve() / part.name) if isinstance(part, Path) else str(part)


def reference_context(
    folder: Path, environ: Mapping[str, str], project: Callable[[], Path]
) -> ReferenceContext:
    """Where relative paths begin, and where references are looked up: in a project those that need one."""

    @cache
    def lookups() -> Mapping[str, Callable[[str], str]]:
        return with_lookups(load_project(project(), environ), this_actor(environ, "atlas"))[0].context.lookups

    def look(kind: str, rest: str) -> str:
        return lookups()[kind](rest)

    kinds = [kind for kind in KINDS if kind not in ("env", "file")]
    return ReferenceContext(folder, environ, {kind: partial(look, kind) for kind in kinds})


def end_of(text: str, called: str, context: ReferenceContext) -> End:
    """The end that a URI or a path names. Raises ConfigError and UsageError, which do not show the text."""
    origin = Origin(LayerKind.OVERRIDE, variable=called)
    expanded = expand_uri(text, (), origin, context)
    try:
        values = parse_location(expanded)
    except ConfigError as error:
        raise ConfigError(f"{called}: {error.message}", hint=error.hint, code=error.code) from None
    protocol = str(values.pop("protocol"))
    adapter = registry.load("http" if protocol == "https" else protocol)
    if adapter.taped is not None:
        raise UsageError(
            f"{called}: {protocol}: an API's records cannot be told from its address alone",
            hint="`atlas connector add NAME` makes a definition, which describes its resources",
        )
    layered = merge([Layer(values, lambda _path: origin)])
    config = validate_connection(adapter.connection, layered, context, file=called, below=())
    shows = "password" in values and not holds_reference(text)
    return End(registry.canonical(protocol), adapter, config, shows)
