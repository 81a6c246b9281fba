"""The request that a resource describes."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit, urlunsplit

from atlas_etl.connectors.http._connection import HttpConnection, Resource
from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._templates import template, template_body


def first_request(config: HttpConnection, resource: Resource) -> Request:
    """What asks for a resource, before anything is known of pages, parents and what is new."""
    base = config.base_url.rstrip("/")
    url = resource.path if "://" in resource.path else f"{base}/{resource.path.lstrip('/')}".rstrip("/")
    parts = urlsplit(url)
    given = {**config.params, **resource.params}
    queried = parse_qsl(parts.query, keep_blank_values=True)
    return Request(
        template(urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))),
        resource.method,
        params=tuple((name, template(value)) for name, value in queried),
        headers={name: template(value) for name, value in resource.headers.items()},
        body=template_body(resource.body),
        empty_on=frozenset(resource.empty_on),
    ).with_params({name: template(_written(value)) for name, value in given.items()})


def _written(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
