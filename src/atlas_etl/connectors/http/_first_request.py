"""The request that a resource describes."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from atlas_etl.connectors.http._messages import Request, origin, shown
from atlas_etl.connectors.http._settings.connection import HttpConnection, Resource
from atlas_etl.connectors.http._templates import template, template_body
from atlas_etl.errors import ConfigError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def first_request(config: HttpConnection, resource: Resource) -> Request:
    """What asks for a resource, before anything is known of pages, parents and what is new.

    Raises ConfigError (`invalid_url`) for a path that is a whole URL and leads nowhere.
    """
    base = config.base_url.rstrip("/")
    is_whole = _SCHEME.match(resource.path) is not None
    url = resource.path if is_whole else _below(base, resource.path.lstrip("/"))
    _check(url)
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


def _below(base: str, path: str) -> str:
    return f"{base}/{path}" if path else base


def _check(url: str) -> None:
    if "{" in url.partition("://")[2].partition("/")[0]:
        return  # where it leads is not known yet
    try:
        scheme, host, _ = origin(url)
    except ValueError:
        scheme = host = ""
    if scheme not in ("http", "https") or not host:
        raise ConfigError(
            f"{shown(url)} is no URL that can be asked",
            hint="a resource's `path` is below `base_url`, or a whole URL such as https://api.example.com/v1/x",
            code="invalid_url",
        )
