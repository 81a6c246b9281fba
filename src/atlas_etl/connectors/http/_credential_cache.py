"""Credentials that were asked for once, kept while they are good, and renewed before they end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from pydantic import SecretStr

from atlas_etl.connectors.base import KeptNowhere, SecretKeeper
from atlas_etl.connectors.http._auth import Credentials, credentials, is_renewable, usable_for
from atlas_etl.connectors.http._auth_settings import Auth
from atlas_etl.connectors.http._failures import status_error
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.errors import AtlasError, SourceError
from atlas_etl.redactor import learn

log = logging.getLogger(__name__)

_ROTATED = (
    "the API rotated the refresh token: this run goes on with the new one, which {why}; the definition's is "
    "stale, so that the next run may be refused: obtain another one for it"
)
_NOWHERE = "is stored nowhere, for the definition does not refer to a secret that Atlas keeps"


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
            if made.refresh_token is not None:
                self._rotate(made.refresh_token)
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

    def _rotate(self, following: SecretStr) -> None:
        """RFC 6749, section 6: the refresh token that was used may be worth nothing from now on."""
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

    def _logged_in(self) -> Credentials:
        """Credentials of the refresh token that is stored now: another process may have rotated it."""
        self._take_stored()
        try:
            return self._asked_for()
        except SourceError as failure:
            if failure.code != "login_failed" or not self._take_stored():
                raise
        return self._asked_for()

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
                failure = status_error(wanted, answer)
                if failure.retryable:
                    raise failure
                wanted = flow.send(answer)
        except StopIteration as done:
            made: Credentials = done.value
            return made
