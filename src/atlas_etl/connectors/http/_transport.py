"""The one loop that does the I/O: requests out, complete responses in, within limits and with retries.

Credentials, cookies and the connection's own headers go to the origin of `base_url` only; credentials of
another kind go to `token_url`. `.netrc` and the environment's proxies are never looked at.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import TypeAlias, cast
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from atlas_etl.connectors.http._auth import Credentials
from atlas_etl.connectors.http._bodies import IncompleteBodyError, decoded
from atlas_etl.connectors.http._connection import ApiConnection, HttpConnection
from atlas_etl.connectors.http._credential_cache import CredentialCache
from atlas_etl.connectors.http._failures import (
    StatusError,
    may_pass,
    refusal,
    refused,
    seconds,
    status_error,
    too_large,
    unreachable,
)
from atlas_etl.connectors.http._logs import redact
from atlas_etl.connectors.http._messages import Request, Response, origin, shown
from atlas_etl.connectors.http._request_auth import request_auth
from atlas_etl.errors import SourceError

Refusal: TypeAlias = Callable[[Request, Response], SourceError | None]

redact()

_CHUNK = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_ACCEPT = {"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "gzip, deflate, zstd"}
_GRACE = 10.0  # seconds before the least rate of a transfer counts


class Transport:
    """Sends the requests of one connection. May be used by several threads."""

    def __init__(self, config: HttpConnection, refusal: Refusal = refusal) -> None:
        """`refusal` tells which answers are failures: a protocol may have others than statuses."""
        self._config = config
        self._refusal = refusal
        self._home = origin(config.base_url)
        self._session = session(config)
        self._elsewhere = session(config)
        self._elsewhere.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._credentials = CredentialCache(config.auth, config.base_url, self._login)
        self._auth = request_auth(config.auth)
        self._lock_of_turns = threading.Lock()
        self._closing = threading.Event()
        self._not_before = 0.0  # of the monotonic clock: when the next request may be sent

    def fetch(self, request: Request) -> Response:
        """The answer to a request, retried as the connection says.

        Raises SourceError: `unreachable`, `http_status` (by its number, such as `http_404`), `incomplete`,
        `too_slow`, `too_large`, `refused_redirect`, `login_failed`.
        """
        for attempt in Retrying(
            retry=retry_if_exception(may_pass),
            stop=stop_after_attempt(self._config.attempts),
            wait=self._wait,
            sleep=self._pause,
            reraise=True,
        ):
            with attempt:
                return self._authorised(request)
        raise AssertionError("tenacity reraises")  # pragma: no cover

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the credentials that were used so far."""
        return self._credentials.warnings

    def close(self) -> None:
        """Give connections back; whoever waits for his turn gets an error."""
        self._closing.set()
        self._session.close()
        self._elsewhere.close()

    def _authorised(self, request: Request) -> Response:
        who = self._credentials.current()
        response = self._redirected(request, who)
        renewed = self._credentials.renewed(who) if response.status == 401 else None
        if renewed is not None:
            response = self._redirected(request, renewed)
        if renewed is not None and response.status == 401:
            raise status_error(request, response, was_renewed=True)
        failure = self._refusal(request, response)
        if failure is not None:
            raise failure
        return response

    def _login(self, request: Request) -> Response:
        return self._send(request, Credentials(), is_home=origin(request.url) == self._home)

    def _redirected(self, request: Request, who: Credentials) -> Response:
        for _ in range(_MOST_REDIRECTS + 1):
            is_home = origin(request.url) == self._home
            if not is_home:
                self._refuse_inside(request.url)
            response = self._send(request, who if is_home else Credentials(), is_home=is_home)
            target = response.headers.get("location")
            if response.status not in _REDIRECTS or target is None:
                return response
            url = urljoin(response.url, target)
            if urlsplit(url).scheme.lower() not in ("http", "https"):
                raise refused(url, "it is no address of the web")
            if origin(request.url)[0] == "https" and origin(url)[0] == "http":
                raise refused(url, "it leads from https to http, where others can read along")
            kept = response.status in (307, 308)
            if request.content is not None and origin(url) != origin(request.url):
                raise refused(url, "a message may hold credentials, which are for the first address only")
            request = Request(
                url,
                request.method if kept or request.method == "GET" else "GET",
                headers=request.headers,
                body=request.body if kept else None,
                content=request.content if kept else None,
            )
        raise refused(request.url, f"there are more than {_MOST_REDIRECTS} in a row")

    def _refuse_inside(self, url: str) -> None:
        """Raise SourceError where another origin is inside the network that this machine is in."""
        if self._home[0] == "https" and origin(url)[0] == "http":
            raise refused(url, "it leads from https to http, where others can read along")
        host = urlsplit(url).hostname or ""
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
            base = {str(info[4][0]) for info in socket.getaddrinfo(self._home[1], None)}
        except OSError:
            return  # then the request fails as well, and says why
        if found <= base:
            return
        for address in found:
            if not ipaddress.ip_address(address.partition("%")[0]).is_global:
                raise refused(url, "it leads to an address that is not public")

    def _send(self, request: Request, who: Credentials, *, is_home: bool) -> Response:
        """One request and its whole answer, whatever its status."""
        own = {**self._config.headers, **request.headers} if is_home else {}
        headers = {**_ACCEPT, **own, **who.headers}
        url = request.url
        client = self._session if is_home else self._elsewhere
        self._wait_for_turn()
        began = time.monotonic()
        try:
            with client.request(
                request.method,
                url,
                params=[*request.params, *who.params.items()],
                headers=headers,
                json=request.body,
                data=request.content or list(request.form) or None,
                auth=self._auth if is_home else None,
                stream=True,
                allow_redirects=False,
                timeout=(self._config.connect_timeout.total_seconds(), self._config.timeout.total_seconds()),
            ) as answer:
                found = {name.lower(): value for name, value in answer.headers.items()}
                raw = self._body(answer.raw, shown(url), began)
                self._note_limits(answer.status_code, found)
                content = (
                    b""
                    if request.method == "HEAD"
                    else decoded(raw, found.get("content-encoding", ""), most=self._config.largest_page)
                )
                return Response(answer.status_code, found, content, answer.url or url)
        except IncompleteBodyError as failure:
            raise SourceError(
                f"{shown(url)}: {failure}",
                hint="the connection was cut, or a proxy changes what passes; nothing of it was loaded",
                code="incomplete",
                retryable=True,
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as failure:
            raise unreachable(url, failure) from None

    def _body(self, raw: urllib3.BaseHTTPResponse, where: str, began: float) -> bytes:
        """The body as it came, within its deadline, its least rate and its greatest size."""
        until = began + self._config.page_timeout.total_seconds()
        found: list[bytes] = []
        size = 0
        while chunk := raw.read1(_CHUNK, decode_content=False):
            found.append(chunk)
            size += len(chunk)
            now = time.monotonic()
            if now > until or (
                now - began > _GRACE and size < self._config.least_rate * (now - began - _GRACE)
            ):
                raise SourceError(
                    f"{where} sends too slowly: {size:,} bytes in {now - began:.0f} s",
                    hint="ask for smaller pages, or set `page_timeout` and `least_rate`",
                    code="too_slow",
                    retryable=True,
                )
            if size > self._config.largest_page:
                raise too_large(where, self._config.largest_page)
        return b"".join(found)

    def _wait_for_turn(self) -> None:
        """Wait until the rate limit, or what the server asked for, allows one more request."""
        with self._lock_of_turns:
            now = time.monotonic()
            begin = max(now, self._not_before)
            if self._config.requests_per_minute is not None:
                self._not_before = begin + 60 / self._config.requests_per_minute
        if begin > now:
            self._pause(begin - now)

    def _pause(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise SourceError("the read was given up", code="given_up")

    def _note_limits(self, status: int, headers: Mapping[str, str]) -> None:
        """Hold the next request back where a server says that nothing is left."""
        remaining = headers.get("x-ratelimit-remaining", headers.get("ratelimit-remaining"))
        if status == 429 or remaining is None or not remaining.strip().isdecimal() or int(remaining) > 0:
            return
        reset = seconds(headers.get("x-ratelimit-reset", headers.get("ratelimit-reset", "")))
        if reset is not None:
            most = self._config.longest_wait.total_seconds()
            with self._lock_of_turns:
                self._not_before = max(self._not_before, time.monotonic() + min(reset, most))

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome is not None else None
        most = self._config.longest_wait.total_seconds()
        asked = failure.wait if isinstance(failure, StatusError) else None
        if asked is not None:
            return min(asked, most)
        return float(wait_exponential_jitter(multiplier=0.5, max=min(30.0, most), jitter=0.5)(state))


def session(config: ApiConnection) -> requests.Session:
    """A client that looks at nothing but this connection. It carries no credentials."""
    made = requests.Session()
    made.trust_env = False
    made.verify = str(config.ca_bundle) if config.ca_bundle is not None else True
    if config.proxy is not None:
        proxy = config.proxy.get_secret_value()
        made.proxies = {"http": proxy, "https": proxy}
    return made


def dispose(client: object) -> None:
    """Give back what `session` made."""
    cast(requests.Session, client).close()
