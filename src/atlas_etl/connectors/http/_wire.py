"""What carries requests: the network, in sessions of requests that look at nothing but their connection.

Cookies and the connection's own headers go to the origin of `base_url` only. `.netrc` and the environment's
proxies are never looked at.
"""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Protocol, cast
from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from atlas_etl.connectors.http._auth.request_auth import request_auth
from atlas_etl.connectors.http._auth.schemes import Credentials
from atlas_etl.connectors.http._messages import Request, Response, origin, shown
from atlas_etl.connectors.http._network.bodies import (
    IncompleteBodyError,
    LargerBodyError,
    UnknownEncodingError,
    decoded,
)
from atlas_etl.connectors.http._network.deadline import Admit, DeadlineAdapter
from atlas_etl.connectors.http._network.failures import refused, too_large, too_slow, unreachable
from atlas_etl.connectors.http._network.logs import redact
from atlas_etl.connectors.http._network.public_addresses import is_public
from atlas_etl.connectors.http._settings.connection import ApiConnection, HttpConnection
from atlas_etl.connectors.waits import tell
from atlas_etl.errors import SourceError

redact()

_CHUNK = 256 * 1024
_ACCEPT = {"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "gzip, deflate, zstd"}
_GRACE = 10.0  # seconds before the least rate of a transfer counts


class Wire(Protocol):
    """Where requests go and answers come from, and the clock that both go by. Used by several threads."""

    def send(self, request: Request, who: Credentials, *, is_home: bool) -> Response:
        """One request and its whole answer, whatever its status. Raises SourceError."""

    def refuse_inside(self, url: str) -> None:
        """Raise SourceError where another origin is inside the network that this machine is in."""

    def now(self) -> datetime:
        """The end of what is asked for, in UTC."""

    def pause(self, seconds: float, why: str = "") -> None:
        """Wait before the next request; why is told, where that is long. Raises SourceError once closed."""

    def close(self) -> None:
        """Give connections back; whoever waits gets an error."""


class Network:
    """The network itself."""

    def __init__(self, config: HttpConnection) -> None:
        self._config = config
        self._home = origin(config.base_url)
        self._session = _set_up(_Client(), config)
        # Of another origin: logins, which the definition names, and links, which an answer names.
        self._logins = _without_cookies(_set_up(_Client(), config))
        self._elsewhere = _without_cookies(_set_up(_Client(), config, self._refuse_address))
        self._auth = request_auth(config.auth)
        self._closing = threading.Event()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def close(self) -> None:
        self._closing.set()
        for client in (self._session, self._logins, self._elsewhere):
            client.close()

    def pause(self, seconds: float, why: str = "") -> None:
        tell(seconds, why)
        if self._closing.wait(seconds):
            raise SourceError("the read was given up", code="given_up")

    def refuse_inside(self, url: str) -> None:
        """Raise SourceError where another origin is inside the network that this machine is in."""
        host = urlsplit(url).hostname or ""
        try:
            for address in _addresses(host):
                self._refuse_address(address)
        except _InwardAddressError:
            raise _inward(url) from None
        except (OSError, UnicodeError):
            return  # then the request fails as well, and says why

    def _refuse_address(self, address: str) -> None:
        """Raise where it is neither public nor one of the API's own."""
        if not is_public(address) and address not in _addresses(self._home[1]):
            raise _InwardAddressError

    def send(self, request: Request, who: Credentials, *, is_home: bool) -> Response:
        own = {**self._config.headers, **request.headers} if is_home else {}
        if request.is_login:
            own |= request.headers  # they are of the login itself
        headers = {**_ACCEPT, **own, **who.headers}
        url = request.url
        elsewhere = self._logins if request.is_login else self._elsewhere
        client = self._session if is_home else elsewhere
        try:
            prepared = requests.PreparedRequest()
            prepared.prepare(
                request.method,
                url,
                params=urlencode([*request.params, *who.params.items()]),
                headers={**client.headers, **headers},
                json=request.body,
                data=request.content or list(request.form) or None,
                auth=self._auth if is_home else None,
                cookies=client.cookies,
            )
            with client.send(
                prepared,
                stream=True,
                allow_redirects=False,
                timeout=(self._config.connect_timeout.total_seconds(), self._config.timeout.total_seconds()),
                proxies=client.proxies,
            ) as answer:
                found = {name.lower(): value for name, value in answer.headers.items()}
                raw = self._body(answer.raw, shown(url))
                content = (
                    b""
                    if request.method == "HEAD"
                    else decoded(raw, found.get("content-encoding", ""), most=self._config.largest_page)
                )
                return Response(
                    answer.status_code, found, content, answer.url or url, dict(answer.request.headers)
                )
        except IncompleteBodyError as failure:
            raise SourceError(
                f"{shown(url)}: {failure}",
                hint="the connection was cut, or a proxy changes what passes; nothing of it was loaded",
                code="incomplete",
                retryable=True,
            ) from None
        except UnknownEncodingError as failure:
            raise SourceError(
                f"{shown(url)}: the answer is encoded as '{failure}', which was not asked for",
                hint="have the API, or the proxy before it, send gzip, deflate, zstd or none of them",
                code="unknown_encoding",
            ) from None
        except LargerBodyError:
            raise too_large(shown(url), self._config.largest_page) from None
        except _InwardAddressError:
            raise _inward(url) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as failure:
            raise unreachable(url, failure) from None

    def _body(self, raw: urllib3.BaseHTTPResponse, where: str) -> bytes:
        """The body as it came, within its least rate and its greatest size; each read has the deadline.

        How long a server thinks before it answers is no matter of its rate.
        """
        began = time.monotonic()
        found: list[bytes] = []
        size = 0
        while chunk := raw.read1(_CHUNK, decode_content=False):
            found.append(chunk)
            size += len(chunk)
            took = time.monotonic() - began
            if took > _GRACE and size < self._config.least_rate * (took - _GRACE):
                raise too_slow(where, f"it sends too slowly: {size:,} bytes in {took:.0f} s")
            if size > self._config.largest_page:
                raise too_large(where, self._config.largest_page)
        return b"".join(found)


class _InwardAddressError(Exception):
    """An address inside the network that this machine is in."""


def _inward(url: str) -> SourceError:
    return refused(url, "it leads to an address that is not public")


def _addresses(host: str) -> frozenset[str]:
    return frozenset(str(info[4][0]) for info in socket.getaddrinfo(host, None))


class _Client(requests.Session):
    """Whose redirects are followed by others: requests would read their bodies whole, however long."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere."""


def _without_cookies(client: requests.Session) -> requests.Session:
    client.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


def session(config: ApiConnection) -> requests.Session:
    """A client that looks at nothing but this connection. It carries no credentials."""
    return _set_up(requests.Session(), config)


def _set_up(made: requests.Session, config: ApiConnection, admit: Admit | None = None) -> requests.Session:
    """`admit` is told the address of each server that is connected to, and may raise."""
    made.trust_env = False
    for scheme in ("http://", "https://"):
        made.mount(scheme, DeadlineAdapter(config.request_timeout.total_seconds(), admit))
    made.verify = str(config.ca_bundle) if config.ca_bundle is not None else True
    if config.proxy is not None:
        proxy = config.proxy.get_secret_value()
        made.proxies = {"http": proxy, "https": proxy}
    return made


def dispose(client: object) -> None:
    """Give back what `session` made."""
    cast(requests.Session, client).close()
