"""Authentication, pure: a request goes in, the same one with credentials goes out, and no socket is in sight.

Each scheme is a generator: it yields requests, is sent their responses, and ends with the credentials of the
request proper as headers and parameters. What it yields goes to `token_url` or the login, never elsewhere.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from urllib.parse import quote_plus

import msgspec
from pydantic import SecretStr

from atlas_etl.connectors.http._auth.jwt import CLOCK_SKEW, GRANT, signed_jwt
from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._documents.records import Document, Scalar
from atlas_etl.connectors.http._messages import Request, Response
from atlas_etl.connectors.http._settings.auth import Auth
from atlas_etl.errors import SourceError

_EARLY = 30.0  # seconds before its end in which a token is renewed already
_ASSUMED_LIFE = 300.0  # of a token that does not say how long it lives
_HINT = "check the credentials under `auth`"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request carries to say who asks."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    lifetime: float | None = None  # seconds; None: they do not end
    refresh_token: SecretStr | None = None  # to ask with the next time, instead of the one that was used up


Flow: TypeAlias = Generator[Request, Response, Credentials]


def credentials(auth: Auth, base_url: str) -> Flow:
    """What is needed to get credentials, and then those. Raises SourceError (`login_failed`)."""
    return _FLOWS[auth.type](auth, base_url)


def is_renewable(auth: Auth) -> bool:
    """Whether asking again may give credentials that an answer 401 did not take."""
    return auth.type in ("oauth2", "session", "jwt")


def usable_for(found: Credentials) -> float | None:
    """For how many seconds; None: without an end. A token of few seconds serves for half of them."""
    return None if found.lifetime is None else max(found.lifetime - _EARLY, found.lifetime / 2)


def _none(_: Auth, __: str) -> Flow:
    yield from ()
    return Credentials()


def _bearer(auth: Auth, _: str) -> Flow:
    yield from ()
    return Credentials(_authorization(_secret(auth.token)))


def _api_key(auth: Auth, _: str) -> Flow:
    yield from ()
    if auth.parameter is not None:
        return Credentials(params={auth.parameter: _secret(auth.api_key)})
    return Credentials({auth.header or "X-API-Key": _secret(auth.api_key)})


def _basic(auth: Auth, _: str) -> Flow:
    """RFC 7617, in UTF-8."""
    yield from ()
    return Credentials(_basic_header(f"{auth.username}:{_secret(auth.password)}"))


def _oauth2(auth: Auth, _: str) -> Flow:
    """RFC 6749, sections 4.3, 4.4 and 6.

    The client's credentials are in the form, as most servers take them; one that does not know them there is
    asked again with a header, which each has to take (section 2.3.1).
    """
    given = {
        "grant_type": auth.grant,
        "client_id": auth.client_id,
        "client_secret": _secret(auth.client_secret) or None,
        "refresh_token": _secret(auth.refresh_token) if auth.grant == "refresh_token" else None,
        "username": auth.username if auth.grant == "password" else None,
        "password": _secret(auth.password) if auth.grant == "password" else None,
        "scope": auth.scope,
        "audience": auth.audience,
    }
    form = tuple((name, value) for name, value in given.items() if value)
    request = Request(auth.token_url or "", "POST", form=form)
    response = yield request
    if auth.client_id is not None and auth.client_secret is not None and _knows_no_client(response):
        both = f"{quote_plus(auth.client_id)}:{quote_plus(_secret(auth.client_secret))}"
        rest = tuple((name, value) for name, value in form if name not in ("client_id", "client_secret"))
        response = yield replace(request, form=rest, headers=_basic_header(both))
    if auth.grant != "refresh_token":
        return _granted(response)
    made = _granted(
        response, "the refresh_token may have ended, or been rotated by an earlier run: get a new one"
    )
    following = Document(response.content, "token_url").find(("refresh_token",))
    is_other = isinstance(following, str) and following not in ("", _secret(auth.refresh_token))
    return replace(made, refresh_token=SecretStr(str(following))) if is_other else made


def _jwt(auth: Auth, _: str) -> Flow:
    """RFC 7523, section 2.1; without a `token_url`, the signed token is what the API takes."""
    token = signed_jwt(auth, time.time())
    if auth.token_url is None:
        return Credentials(_authorization(token), lifetime=auth.lifetime.total_seconds() - CLOCK_SKEW)
    scope = (("scope", auth.scope),) if auth.scope else ()
    request = Request(auth.token_url, "POST", form=(("grant_type", GRANT), ("assertion", token), *scope))
    return _granted(
        (yield request),
        hint="check issuer, subject, audience, claims and the key under `auth`, and this machine's clock",
    )


def _granted(response: Response, hint: str = _HINT) -> Credentials:
    """The token of an answer (RFC 6749, section 5.1)."""
    token = _found(response, "access_token", "token_url", hint)
    told = Document(response.content, "token_url").find(("expires_in",))
    return Credentials(_authorization(token), lifetime=_seconds(told))


def _seconds(told: Scalar) -> float:
    try:
        seconds = float(str(told))
    except ValueError:
        return _ASSUMED_LIFE
    return seconds if seconds >= 0 else _ASSUMED_LIFE


def _knows_no_client(response: Response) -> bool:
    why = _error_of(response)
    return why == "invalid_client" or (response.status == 401 and why != "invalid_grant")


def _basic_header(both: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(both.encode()).decode()}"}


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _session(auth: Auth, base_url: str) -> Flow:
    """A login whose answer holds a token, or sets cookies."""
    body = {name: value.get_secret_value() for name, value in auth.login_body.items()}
    login = base_url.rstrip("/") + "/" + (auth.login_path or "").lstrip("/")
    response = yield Request(login, "POST", body={**body})
    _check(response, "login_path")
    if auth.login_token is None:
        return Credentials()
    token = _found(response, auth.login_token, "login_path")
    header = auth.header or "Authorization"
    return Credentials({header: f"Bearer {token}" if header == "Authorization" else token})


_FLOWS: dict[str, Callable[[Auth, str], Flow]] = {
    "none": _none,
    "bearer": _bearer,
    "api_key": _api_key,
    "basic": _basic,
    "digest": _none,  # needs the server's challenge: requests answers it
    "oauth2": _oauth2,
    "session": _session,
    "jwt": _jwt,
    "hmac": _none,  # signs each request by itself: _signing
    "aws_sigv4": _none,
}


def _found(response: Response, path: str, where: str, hint: str = _HINT) -> str:
    _check(response, where, hint)
    if 300 <= response.status < 400:
        raise _failed(
            f"{where} answered {response.status}, and credentials are not sent on",
            f"set `{where}` under `auth` to where it leads",
        )
    found = Document(response.content, where).find(parse_path(path))
    if not isinstance(found, str) or not found:
        raise _failed(_because(f"{where} answered {response.status} without a token", response), hint)
    return found


def _check(response: Response, where: str, hint: str = _HINT) -> None:
    if response.status >= 400:
        raise _failed(_because(f"{where} answered {response.status}", response), hint)


def _failed(why: str, hint: str) -> SourceError:
    return SourceError(f"the login failed: {why}", hint=hint, code="login_failed")


class _Refusal(msgspec.Struct):
    error: str = ""  # a code of RFC 6749, section 5.2


def _because(what: str, response: Response) -> str:
    why = _error_of(response)
    return f"{what} ({why})" if why else what


def _error_of(response: Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_Refusal).error[:80]
    except (msgspec.DecodeError, RecursionError):
        return ""


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value is not None else ""
