"""What another answer gives to a resource's request, and what it says of the columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
from msgspec import Struct, field

from atlas_etl import values
from atlas_etl.connectors.declared import declared
from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._documents.records import Document, Scalar
from atlas_etl.connectors.http._settings.connection import Resource
from atlas_etl.connectors.http._settings.prior import ANY_KIND, Given
from atlas_etl.connectors.known import Known
from atlas_etl.errors import SourceError
from atlas_etl.model import ColumnInfo, KnownColumns, Stream, StreamInfo


class GivenNames(Struct, frozen=True):
    """The text for each `{name}`, and the declared types of columns."""

    texts: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


NOTHING_GIVEN = GivenNames()


def described(stream: Stream, resource: Resource, types: Mapping[str, str]) -> StreamInfo:
    """What is known of a stream without its records, which only a job over all of them would tell."""
    key = stream.primary_key or resource.primary_key
    return StreamInfo(
        stream.name,
        tuple(
            ColumnInfo(name, values.type_name(declared(kind)), name not in key)
            for name, kind in {**types, **resource.types}.items()
        ),
        primary_key=key,
        cursor_candidates=(resource.cursor,) if resource.cursor is not None else (),
    )


def schema_given(resource: Resource, types: Mapping[str, str], known: KnownColumns | None) -> pa.Schema:
    """The columns that records will have, as far as that is told before they are there."""
    named = {name: declared(kind) for name, kind in {**types, **resource.types}.items()}
    return pa.schema(
        [
            values.inferred(pa.field(name, kind))
            for name, kind in (*Known(known).others(named), *named.items())
        ]
    )


def taken(how: Given, content: bytes, where: str) -> tuple[str, Mapping[str, str]]:
    """An answer's members, joined by commas, and the types of columns. Raises SourceError (`none_given`)."""
    kinds = dict(_members(how, Document(content, where), where))
    if not kinds:
        raise SourceError(
            f"{where} names nothing at {how.records!r} that could be asked for",
            hint="check `records`, `field` and `without` under `given`, and what the credentials may see",
            code="none_given",
        )
    types = {name: how.types.get(str(kind), how.types.get(ANY_KIND)) for name, kind in kinds.items()}
    return ",".join(kinds), {name: kind for name, kind in types.items() if kind is not None}


def _members(how: Given, document: Document, where: str) -> Iterator[tuple[str, Scalar]]:
    """Each that is not left out, with its kind."""
    name_at, kind_at = parse_path(how.field), parse_path(how.kind) if how.kind is not None else None
    for record in document.records(parse_path(how.records)):
        each = Document(bytes(record), where)
        name, kind = each.find(name_at), each.find(kind_at) if kind_at is not None else None
        if name is None:
            raise SourceError(
                f"{where} lists something at {how.records!r} without {how.field!r}",
                hint="set `field` under `given` to a member that each has",
                code="none_given",
            )
        if kind not in how.without:
            yield str(name), kind
