"""What requests calls with each request that is ready to be sent: signatures, and answers to challenges."""

from __future__ import annotations

import threading
from typing import Any

from requests import PreparedRequest, Response
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar

from atlas_etl.connectors.http._auth.digest import answer, challenge_of
from atlas_etl.connectors.http._auth.signing import Outgoing, signed
from atlas_etl.connectors.http._settings.auth import Auth

_SIGNED = ("hmac", "aws_sigv4")
_LONGEST_REFUSAL = 64 * 1024  # bytes of a challenge, which nobody reads, before its connection is given up


def request_auth(auth: Auth) -> AuthBase | None:
    """None where headers and parameters say all that there is to say. It may be used by several threads."""
    if auth.type == "digest":
        password = auth.password.get_secret_value() if auth.password is not None else ""
        return _Digest(auth.username or "", password)
    return _Signed(auth) if auth.type in _SIGNED else None


class _Digest(AuthBase):
    """Answers a server's challenge, and the same one before it is asked again. Each thread has its own."""

    def __init__(self, username: str, password: str) -> None:
        self._username, self._password = username, password
        self._own = threading.local()

    def __call__(self, prepared: PreparedRequest) -> PreparedRequest:
        self._own.was_asked = False
        if getattr(self._own, "challenge", None) is not None:
            prepared.headers["Authorization"] = self._answer(prepared)
        prepared.register_hook("response", self._challenged)  # type: ignore[no-untyped-call]
        return prepared

    def _challenged(self, refusal: Response, **kwargs: Any) -> Response:
        """Answers a challenge that is whole, once; any other stays the refusal that it is."""
        told = refusal.headers.get("www-authenticate", "")
        challenge = challenge_of(told) if refusal.status_code == 401 and not self._own.was_asked else None
        if challenge is None:
            return refusal
        _skip_body(refusal)
        refusal.close()
        self._own.challenge, self._own.count, self._own.was_asked = challenge, 0, True
        again = refusal.request.copy()
        cookies = again._cookies  # type: ignore[attr-defined]
        extract_cookies_to_jar(cookies, refusal.request, refusal.raw)  # type: ignore[no-untyped-call]
        again.prepare_cookies(cookies)
        again.headers["Authorization"] = self._answer(again)
        answered: Response = refusal.connection.send(again, **kwargs)
        answered.history.append(refusal)
        answered.request = again
        return answered

    def _answer(self, prepared: PreparedRequest) -> str:
        self._own.count += 1
        return answer(
            self._own.challenge, self._username, self._password, _outgoing(prepared), count=self._own.count
        )


def _skip_body(refusal: Response) -> None:
    """Where requests would read a whole body into memory, unpack it too, only to use the connection again."""
    if len(refusal.raw.read(_LONGEST_REFUSAL, decode_content=False)) == _LONGEST_REFUSAL:
        refusal.raw.close()
    refusal._content, refusal._content_consumed = b"", True  # type: ignore[attr-defined]


class _Signed(AuthBase):
    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def __call__(self, prepared: PreparedRequest) -> PreparedRequest:
        url, mark, query = (prepared.url or "").partition("?")
        # A blank is written in one way only in what is signed (AWS: %20), and every server reads that one.
        prepared.url = url + mark + query.replace("+", "%20")
        prepared.headers.update(signed(self._auth, _outgoing(prepared)))
        return prepared


def _outgoing(prepared: PreparedRequest) -> Outgoing:
    body = prepared.body or b""
    return Outgoing(
        prepared.method or "GET",
        prepared.url or "",
        body if isinstance(body, bytes) else str(body).encode(),
        prepared.headers.get("Content-Type"),
    )
