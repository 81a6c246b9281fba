"""The request of one page: its size, and its place among the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from pydantic import JsonValue

from atlas_etl.connectors.http._documents.records import Scalar
from atlas_etl.connectors.http._filled import filled
from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.errors import SourceError

Place: TypeAlias = Scalar | tuple[Scalar, ...]


def with_size(how: Pagination, first: Request, usual: str) -> Request:
    if how.page_size is None:
        return first
    return with_place(how, first, {how.page_size_parameter or usual: how.page_size})


def with_place(how: Pagination, request: Request, values: Mapping[str, Place]) -> Request:
    """The request with these in it. Raises SourceError (`page_position`) for several values in a text."""
    if how.into == "body":
        body: dict[str, JsonValue] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
        }
        return request.with_body(body)
    texts = {name: value for name, value in values.items() if not isinstance(value, tuple)}
    if len(texts) < len(values):
        raise SourceError(
            "a page ends with a record that has several values to go on from, and only a body can hold them",
            hint="set `into: body` of `pagination`, and `method: POST` of the resource",
            code="page_position",
        )
    if how.into == "template":
        return filled(request, texts)
    return request.with_params({name: str(value) for name, value in texts.items()})


def more_of(first: Request) -> Request:
    """What asks for the pages behind the first: one that an API itself names is there."""
    return replace(first, empty_on=frozenset())
