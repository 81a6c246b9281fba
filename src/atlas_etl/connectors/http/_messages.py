"""Requests and responses as values, and what of a URL may be shown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import JsonValue

from atlas_etl.connectors.http._documents.paths import Path, parse_path
from atlas_etl.connectors.http._templates import plain_body

Parameters: TypeAlias = tuple[tuple[str, str], ...]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, before headers and credentials of its connection are added."""

    url: str
    method: str = "GET"
    params: Parameters = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: JsonValue = None  # sent as JSON
    form: Parameters = ()  # sent as a form, where there is no body
    content: bytes | None = field(default=None, repr=False)  # sent as it is, instead of both
    # Makes of `content` what is good for one sending.
    seal: Callable[[bytes], bytes] | None = field(default=None, repr=False)
    empty_on: frozenset[int] = frozenset()  # statuses of answers that mean no records
    repeats: int = 0  # how many records of the page before its answer begins with
    is_again: bool = False  # whether it is for the page before, once more
    wait: float = 0.0  # seconds before it is sent
    wants_records: bool = False  # whether what it asks for has to be there
    is_login: bool = False  # whether credentials are asked for, which both it and its answer hold

    def with_params(self, more: Mapping[str, str]) -> Request:
        """The request with these parameters instead of those of the same names."""
        kept = tuple((name, value) for name, value in self.params if name not in more)
        return replace(self, params=(*kept, *more.items()))

    def plain(self) -> Request:
        """The request as it is sent: names that nobody replaced are what is written."""
        return replace(
            self,
            url=str(self.url),
            params=tuple((name, str(value)) for name, value in self.params),
            headers={name: str(value) for name, value in self.headers.items()},
            body=plain_body(self.body),
        )

    def sealed(self) -> Request:
        """The request as it goes out once: servers refuse a nonce that they saw before."""
        if self.seal is None or self.content is None:
            return self
        return replace(self, content=self.seal(self.content), seal=None)

    def without_params(self, names: Collection[str]) -> Request:
        """The request without these parameters, which links and redirects may bring back."""
        parts = urlsplit(self.url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        kept = [(name, value) for name, value in given if name not in names]
        params = tuple((name, value) for name, value in self.params if name not in names)
        if len(kept) == len(given):
            return replace(self, params=params)
        return replace(self, url=urlunsplit(parts._replace(query=urlencode(kept))), params=params)

    def with_body(self, more: Mapping[str, JsonValue]) -> Request:
        """The request with these members of its body, given by their paths, instead of what is there."""
        body = self.body
        for path, value in more.items():
            body = _placed(body, parse_path(path), value)
        return replace(self, body=body)

    def with_headers(self, more: Mapping[str, str]) -> Request:
        """The request with these headers instead of those of the same names, in any case."""
        names = {name.lower() for name in more}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in names}
        return replace(self, headers={**kept, **more})


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; its content is decompressed and complete."""

    status: int
    headers: Mapping[str, str]  # of lower-case names
    content: bytes
    url: str  # that was asked last, after redirects
    sent: Mapping[str, str] = field(default_factory=dict, repr=False)  # the request's headers, as they went


def _placed(body: JsonValue, path: Path, value: JsonValue) -> JsonValue:
    members = body if isinstance(body, dict) else {}
    first, *rest = path
    return {**members, first: _placed(members.get(first), tuple(rest), value) if rest else value}


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: who credentials are for (RFC 6454). Raises ValueError for what is no URL."""
    parts = urlsplit(url)
    return (
        parts.scheme.lower(),
        (parts.hostname or "").lower(),
        parts.port or _PORTS.get(parts.scheme.lower()),
    )


def without_user(url: str) -> str:
    """The URL without a user and password, which a client would send in the place of its own credentials."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def shown(url: str) -> str:
    """The URL without its user, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        where = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        if "@" in url:  # what should be a port may be a password
            return "a URL that cannot be read"
        return url.partition("?")[0].partition("#")[0]
    return urlunsplit((parts.scheme, where, parts.path, "", ""))
