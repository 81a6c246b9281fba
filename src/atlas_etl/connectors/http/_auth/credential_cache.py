"""Credentials that were asked for once, kept while they are good, and renewed before they end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from datetime import datetime
from time import monotonic

from pydantic import SecretStr

from atlas_etl.connectors.http._auth.schemes import Credentials, credentials, is_renewable, usable_for
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._network.failures import status_error
from atlas_etl.connectors.http._settings.auth import Auth
from atlas_etl.connectors.rotation import KeptNowhere, SecretKeeper
from atlas_etl.errors import AtlasError, SourceError
from atlas_etl.redactor import learn

log = logging.getLogger(__name__)

_ROTATED = (
    "the API rotated the refresh token: this run goes on with the new one, which {why}; the definition's is "
    "stale, so that the next run may be refused: obtain another one for it"
)
_NOWHERE = "is stored nowhere, for the definition does not refer to a secret that Atlas keeps"
_BROKEN_OFF = (
    "an exchange of this refresh token began at {when:%Y-%m-%dT%H:%M:%SZ} and was broken off, so that what "
    "the API gave for it may be lost: authorize the app again, and store its token with "
    "`atlas connector rotate NAME`"
)
_LONGEST_EXCHANGE = 30.0  # seconds that whoever ends the process waits for one


class CredentialCache:
    """The credentials of one connection. Of several threads that want them, one asks and the others wait."""

    def __init__(self, auth: Auth, base_url: str, send: Callable[[Request], Response]) -> None:
        self._auth = auth
        self._base_url = base_url
        self._send = send
        self._lock = threading.Lock()
        self.warnings: tuple[str, ...] = ()  # what a person should know of them
        self.keeper: SecretKeeper = KeptNowhere()
        self._kept: tuple[Credentials, float | None] | None = None  # until when, by the monotonic clock

    def current(self) -> Credentials:
        """Credentials that are still good. Raises SourceError (`login_failed`, or why nobody answered)."""
        with self._lock:
            if self._kept is not None:
                found, until = self._kept
                if until is None or monotonic() < until:
                    return found
            made = self._logged_in()
            learn([*made.headers.values(), *made.params.values()])
            lifetime = usable_for(made)
            self._kept = (made, None if lifetime is None else monotonic() + lifetime)
            return made

    def renewed(self, refused: Credentials) -> Credentials | None:
        """Others than those that an answer 401 did not take; None where asking again changes nothing."""
        if not is_renewable(self._auth):
            return None
        with self._lock:
            # Somebody else may have met the same answer first.
            if self._kept is not None and self._kept[0] is refused:
                self._kept = None
        return self.current()

    def settle(self) -> None:
        """Wait until a refresh token that is on its way is stored: the old one may be worth nothing now."""
        if self._refreshes and self._lock.acquire(timeout=_LONGEST_EXCHANGE):
            self._lock.release()

    @property
    def _refreshes(self) -> bool:
        return self._auth.type == "oauth2" and self._auth.grant == "refresh_token"

    def _logged_in(self) -> Credentials:
        if not self._refreshes:
            return self._asked_for()
        # A signal interrupts whoever waits, and not the exchange: he then waits for its end.
        with ThreadPoolExecutor(1, "atlas-login") as alone:
            return alone.submit(copy_context().run, self._exchanged).result()

    def _exchanged(self) -> Credentials:
        """RFC 6749, section 6: the refresh token that was used may be worth nothing from now on."""
        self._take_stored()
        with self.keeper.exchanging(self._auth.refresh_token or SecretStr("")) as broken_off:
            is_another = self._take_stored()  # which another process got while this one waited for its turn
            made = self._refreshed(None if is_another else broken_off)
            if isinstance(made, Credentials) and made.refresh_token is not None:
                self._rotate(made.refresh_token)
        if isinstance(made, SourceError):
            raise made
        return made

    def _refreshed(self, broken_off: datetime | None) -> Credentials | SourceError:
        """Credentials for the token at hand, or for another one that is stored by now; or a refusal.

        A refusal ends the exchange as an answer does. Whatever else is raised leaves open how it ended.
        """
        while True:
            try:
                return self._asked_for()
            except SourceError as failure:
                if failure.code != "login_failed":
                    raise
                if self._take_stored():
                    continue
                if broken_off is not None:
                    failure.code = "token_lost"
                    failure.hint = _BROKEN_OFF.format(when=broken_off)
                    raise
                return failure

    def _rotate(self, following: SecretStr) -> None:
        """Store the token before the one that came with it is used."""
        used, why = self._auth.refresh_token or SecretStr(""), _NOWHERE
        self._auth = self._auth.model_copy(update={"refresh_token": following})
        try:
            if self.keeper.keep(used, following):
                self.warnings = ()
                return
        except AtlasError as failure:
            why = f"could not be stored ({failure.message})"
        if not self.warnings:
            self.warnings = (_ROTATED.format(why=why),)
            log.warning("%s: %s", shown(self._auth.token_url or ""), *self.warnings)

    def _take_stored(self) -> bool:
        """Whether another refresh token is stored than the one at hand, which it replaces."""
        used = self._auth.refresh_token
        if used is None:
            return False
        try:
            stored = self.keeper.current(used)
        except AtlasError as failure:
            log.warning("%s: %s", shown(self._auth.token_url or ""), failure.message)
            return False
        if stored is None or stored == used:
            return False
        self._auth = self._auth.model_copy(update={"refresh_token": stored})
        return True

    def _asked_for(self) -> Credentials:
        flow = credentials(self._auth, self._base_url)
        try:
            wanted = next(flow)
            while True:
                answer = self._send(wanted)
                failure = status_error(replace(wanted, is_login=True), answer)
                if failure.retryable:
                    raise failure
                wanted = flow.send(answer)
        except StopIteration as done:
            made: Credentials = done.value
            return made
