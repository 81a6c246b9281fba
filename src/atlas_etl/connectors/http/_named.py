"""What APIs without paths share: a stream names a resource, and what is new is asked for in the body."""

from __future__ import annotations

from typing import ClassVar

from atlas_etl.connectors.http._reader import HttpConnector
from atlas_etl.connectors.http._settings.connection import Resource
from atlas_etl.connectors.http._settings.incremental import Incremental, Since
from atlas_etl.errors import ConfigError, nearest
from atlas_etl.model import Stream


class NamedResources(HttpConnector):
    """Reads what its definition describes, and nothing else."""

    described_by: ClassVar[str]  # what a resource is made of

    def stream_of(self, query: str) -> Stream:
        return Stream(name="query", table=query)

    def _unnamed(self, name: str) -> Resource:
        raise ConfigError(
            f"there is no resource {name!r}",
            hint=nearest(name, self.config.resources)
            or f"describe its {self.described_by} under `resources`",
            code="unknown_resource",
        )


def asked_in_body(how: Since, begin: str | None, end: str | None) -> Incremental:
    """The same as parameters of a body; `begin` and `end` are their paths."""
    given = {name: getattr(how, name) for name in Since.model_fields}
    return Incremental(**given, parameter=begin, end_parameter=end, into="body")
