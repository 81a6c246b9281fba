"""What requests calls with each request that is ready to be sent: signatures, and answers to challenges."""

from __future__ import annotations

from typing import Any

from requests import PreparedRequest, Response
from requests.auth import AuthBase, HTTPDigestAuth

from atlas_etl.connectors.http._auth_settings import Auth
from atlas_etl.connectors.http._signing import Outgoing, signed

_SIGNED = ("hmac", "aws_sigv4")
_LONGEST_REFUSAL = 64 * 1024  # bytes of a challenge, which nobody reads, before its connection is given up


def request_auth(auth: Auth) -> AuthBase | None:
    """None where headers and parameters say all that there is to say. It may be used by several threads."""
    if auth.type == "digest":
        password = auth.password.get_secret_value() if auth.password is not None else ""
        return _Digest(auth.username or "", password)
    return _Signed(auth) if auth.type in _SIGNED else None


class _Digest(HTTPDigestAuth):
    def handle_401(self, r: Response, **kwargs: Any) -> Response:
        """Answers a challenge that is whole; any other stays the refusal that it is."""
        told = r.headers.get("www-authenticate", "").lower()
        if r.status_code != 401 or any(each not in told for each in ("digest", "nonce=", "realm=")):
            return r
        if self._thread_local.num_401_calls < 2:  # type: ignore[attr-defined]  # then it is answered
            _skip_body(r)
        answered: Response = super().handle_401(r, **kwargs)  # type: ignore[no-untyped-call]
        return answered


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
        body = prepared.body or b""
        outgoing = Outgoing(
            prepared.method or "GET",
            prepared.url,
            body if isinstance(body, bytes) else str(body).encode(),
            prepared.headers.get("Content-Type"),
        )
        prepared.headers.update(signed(self._auth, outgoing))
        return prepared
