"""Requests to whole answers: credentials, redirects, limits and retries. A wire carries what is sent.

Credentials go to the origin of `base_url` only; credentials of another kind go to `token_url`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_exponential_jitter

from atlas_etl.connectors.http._auth.credential_cache import CredentialCache
from atlas_etl.connectors.http._auth.digest import without_digest
from atlas_etl.connectors.http._auth.schemes import Credentials
from atlas_etl.connectors.http._examined import Heard
from atlas_etl.connectors.http._messages import Request, Response, origin, shown, without_user
from atlas_etl.connectors.http._network.deadline import within
from atlas_etl.connectors.http._network.failures import (
    StatusError,
    may_pass,
    refusal,
    refused,
    status_error,
    was_slow,
)
from atlas_etl.connectors.http._network.links import check_address, target
from atlas_etl.connectors.http._network.pace import RetryBudget, Turns
from atlas_etl.connectors.http._network.rate_limits import seconds_ahead, wait_for_more
from atlas_etl.connectors.http._settings.connection import HttpConnection
from atlas_etl.connectors.http._wire import Wire
from atlas_etl.connectors.rotation import SecretKeeper
from atlas_etl.connectors.waits import tell_try
from atlas_etl.errors import SourceError

Refusal: TypeAlias = Callable[[Request, Response], SourceError | None]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_TIMED = frozenset({"jwt", "hmac", "aws_sigv4"})  # credentials that say when they were made
_NOTICED = 30.0  # seconds, more than most servers bear


class Transport:
    """Sends the requests of one connection. May be used by several threads."""

    def __init__(self, config: HttpConnection, wire: Wire, refusal: Refusal = refusal) -> None:
        """`refusal` tells which answers are failures: a protocol may have others than statuses."""
        self._config = config
        self._refusal = refusal
        self._home = origin(config.base_url)
        self._wire = wire
        self._credentials = CredentialCache(config.auth, config.base_url, self._login)
        self._turns = Turns(config.least_interval, wire.pause)
        self._slots = threading.BoundedSemaphore(config.concurrency)
        self._budget = RetryBudget(config.retry_budget)
        self._tries = Retrying(
            retry=retry_if_exception(self._may_try_again),
            stop=stop_after_attempt(config.attempts) | stop_before_delay(config.page_timeout.total_seconds()),
            wait=self._wait,
            before_sleep=self._pause,
            sleep=lambda _: None,  # that was done, by who knows the reason
            reraise=True,
        )
        self.heard: Heard | None = None  # of the API itself, last

    def fetch(self, request: Request) -> Response:
        """The answer to a request, retried as the connection says.

        Raises SourceError: `unreachable`, `http_status` (by its number, such as `http_404`), `incomplete`,
        `too_slow`, `too_large`, `refused_redirect`, `login_failed`.
        """
        if request.wait:
            self._wire.pause(request.wait)
        page = self._config.page_timeout.total_seconds()
        began = time.monotonic()
        try:
            for attempt in self._tries:
                with attempt, within(page - (attempt.retry_state.seconds_since_start or 0.0)):
                    answer = self.fetch_once(request)
                    self._budget.give_back()
                    return answer
        except SourceError as failure:
            if may_pass(failure):
                self._budget.give_up(began, was_slow=was_slow(failure))
            if was_slow(failure):
                failure.tries = attempt.retry_state.attempt_number
            raise
        raise AssertionError("tenacity reraises")  # pragma: no cover

    def fetch_once(self, request: Request) -> Response:
        """The answer to a request that is tried once, but for credentials that have to be renewed."""
        request = request.plain()
        check_address(request.url)
        who = self._credentials.current()
        response = self._redirected(request, who)
        renewed = self._credentials.renewed(who) if response.status == 401 else None
        if renewed is not None:
            response = self._redirected(request, renewed)
        if renewed is not None and response.status == 401:
            failure: SourceError | None = status_error(request, response, was_renewed=True)
        else:
            failure = self._refusal(request, response)
        if failure is None:
            return response
        if response.status == 401 and self._config.auth.type == "digest":
            failure.hint = without_digest(response.headers.get("www-authenticate", "")) or failure.hint
        if response.status in (401, 403) and self._config.auth.type in _TIMED:
            ahead = seconds_ahead(response.headers, self._wire.now())
            if abs(ahead) >= _NOTICED:
                way = "ahead of" if ahead > 0 else "behind"
                failure.hint = f"this machine's clock is {abs(ahead):,.0f} s {way} the server's: set it"
        raise failure

    def keep_rotated(self, keeper: SecretKeeper) -> None:
        """Tell the keeper of each refresh token that the API rotates."""
        self._credentials.keeper = keeper

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the credentials that were used so far."""
        return self._credentials.warnings

    def close(self) -> None:
        """Give connections back; whoever waits for his turn gets an error."""
        self._credentials.settle()
        self._wire.close()

    def _login(self, request: Request) -> Response:
        asked = replace(request, is_login=True)
        return self._send(asked, Credentials(), is_home=origin(request.url) == self._home)

    def _send(self, request: Request, who: Credentials, *, is_home: bool) -> Response:
        self._turns.wait()
        with self._slots:
            before = datetime.now(UTC)
            asked = request.without_params(who.params) if who.params else request
            response = self._wire.send(asked.sealed(), who, is_home=is_home)
        if is_home:
            self.heard = Heard(response.headers, before, datetime.now(UTC))
        wait = wait_for_more(response.headers)
        if wait is not None and is_home:
            most = self._config.longest_wait.total_seconds()
            self._turns.hold_back(min(wait, most), f"{shown(request.url)} has nothing left of its rate limit")
        return response

    def _redirected(self, request: Request, who: Credentials) -> Response:
        for _ in range(_MOST_REDIRECTS + 1):
            request = replace(request, url=without_user(request.url))
            is_home = origin(request.url) == self._home
            if not is_home:
                if self._home[0] == "https" and origin(request.url)[0] == "http":
                    raise refused(request.url, "it leads from https to http, where others can read along")
                self._wire.refuse_inside(request.url)
            response = self._send(request, who if is_home else Credentials(), is_home=is_home)
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None:
                return response
            url = target(response.url, location)
            if origin(request.url)[0] == "https" and origin(url)[0] == "http":
                raise refused(url, "it leads from https to http, where others can read along")
            kept = response.status in (307, 308)
            sends = request.content is not None or (kept and (request.body is not None or request.form))
            if sends and origin(url) != origin(request.url):
                raise refused(url, "a message may hold credentials, which are for the first address only")
            request = Request(
                url,
                request.method if kept or request.method == "GET" else "GET",
                headers=request.headers,
                body=request.body if kept else None,
                content=request.content if kept else None,
                seal=request.seal,
            )
        raise refused(request.url, f"there are more than {_MOST_REDIRECTS} in a row")

    def _may_try_again(self, failure: BaseException) -> bool:
        return may_pass(failure) and self._budget.take()

    def _pause(self, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome is not None else None
        wait = state.next_action.sleep if state.next_action is not None else 0.0
        if not isinstance(failure, SourceError):
            raise AssertionError("nothing else is tried again")  # pragma: no cover
        why = f"{failure.message} (try {state.attempt_number} of {self._config.attempts})"
        if was_slow(failure):
            tell_try(why)
        self._wire.pause(wait, "" if was_slow(failure) else why)

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome is not None else None
        most = self._config.longest_wait.total_seconds()
        asked = failure.wait if isinstance(failure, StatusError) else None
        # Also where a server's clock is behind, and its date has passed here.
        usual = float(wait_exponential_jitter(multiplier=0.5, max=min(30.0, most), jitter=0.5)(state))
        return max(min(asked or 0.0, most), usual)
