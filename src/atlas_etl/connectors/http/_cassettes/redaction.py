"""What a cassette may hold: requests and answers without credentials, wherever and however they are written.

A secret is found by its place (headers, parameters and logins) and by its text: as it is, escaped in JSON,
XML or a URL, inside base64, and in any charset. Both a recording and its replay go through here, and meet in
what is left.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode, urlsplit, urlunsplit

import msgspec
from pydantic import BaseModel, JsonValue, SecretStr

from atlas_etl.config.secrecy import is_secret_name
from atlas_etl.connectors.http._messages import Parameters
from atlas_etl.secret_forms import SHORTEST, parts_of, replaced, written_anyhow

REDACTED = "REDACTED"
_NUMBER = "9999"  # a number in the place of one, so that JSON stays JSON
_SHORTEST_LEARNED = 8
_SHOWN_OF_LOGINS = frozenset({"grant_type", "scope", "token_type", "expires_in", "error"})
_UTF_16 = ("utf-16-le", "utf-16-be")
_SIGNATURE = re.compile(r"(?i)\b(?:response|cnonce|signature)=\"?([0-9a-z+/=_-]{8,})")
_SECURITY = re.compile(rb"<(?:\w+:)?Security[\s>].*?</(?:\w+:)?Security>", re.DOTALL)
_SECURITY_SECRET = re.compile(rb"<(?:\w+:)?(?:Password|Nonce)\b[^>]*>([^<]+)<")
_COOKIE = re.compile(r"(?:^|[,;])\s*[^=;,\s]+=\"?([^;,\s\"]+)")
_SENT = frozenset({"headers", "params", "body", "variables", "claims"})
_SECRET_HEADERS = frozenset({"www-authenticate", "proxy-authenticate", "authentication-info"})


class Redaction:
    """The secrets of one connection, to which more come while it is used. For several threads."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._pattern: re.Pattern[bytes] | None = None
        self._add(secrets, SHORTEST)

    def learn(self, secrets: Iterable[str]) -> None:
        """Redact these, too, from now on: what a replay does not know, so nothing that is short."""
        self._add(secrets, _SHORTEST_LEARNED)

    def _add(self, secrets: Iterable[str], shortest: int) -> None:
        found = {part for secret in secrets for part in parts_of(secret) if len(part) >= shortest}
        found = {secret for secret in found if secret not in REDACTED and secret not in _NUMBER}
        with self._lock:
            if not found or found <= self._known:
                return
            self._known |= found
            self._pattern = _pattern(self._known)

    def knows(self, text: str) -> bool:
        with self._lock:
            return text in self._known

    def content(self, content: bytes, once: Iterable[str] = ()) -> bytes:
        """The content without what is known, and without what is a secret `once`, of one request alone."""
        with self._lock:
            pattern = self._pattern
        if parts := {part for each in once for part in parts_of(each) if len(part) >= _SHORTEST_LEARNED}:
            content = _without(_pattern(parts), content)
        return content if pattern is None else _without(pattern, content)

    def text(self, text: str, once: Iterable[str] = ()) -> str:
        return self.content(_utf_8(text), once).decode("utf-8", "replace")

    def url(self, url: str, params: Parameters = ()) -> str:
        """The URL with these parameters, without its user part."""
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        given = [pair.partition("=")[::2] for pair in parts.query.replace("+", " ").split("&") if pair]
        raw = [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, value in given]  # of any charset
        raw += [(_utf_8(name), _utf_8(value)) for name, value in params]
        query = urlencode([(self.content(name), self.content(value)) for name, value in raw])
        return urlunsplit((parts.scheme, self.text(place), self.text(parts.path), query, ""))

    def headers(
        self, headers: Mapping[str, str], *, shown: Iterable[str] = (), once: Iterable[str] = ()
    ) -> dict[str, str]:
        """Headers as a cassette has them; those of `shown` names keep what is no known secret."""
        kept = {name.lower() for name in shown}
        return {
            name: REDACTED if _is_secret_header(name) and name.lower() not in kept else self.text(value, once)
            for name, value in headers.items()
        }

    def login(self, content: bytes) -> bytes:
        """A login's answer: only what says how it went. What it gave out is known from now on."""
        try:
            found = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError):
            return REDACTED.encode() if content else b""
        given = list(_given_out(found))
        if isinstance(found, dict) and self.knows(str(found.get("refresh_token"))):
            del found["refresh_token"]  # it was not rotated
        self.learn(given)
        return msgspec.json.encode(_masked(found))

    def body(self, body: JsonValue, *, is_login: bool) -> bytes:
        if body is None:
            return b""
        # The order of members says nothing.
        return self.content(msgspec.json.encode(_masked(body) if is_login else body, order="sorted"))

    def message(self, message: bytes) -> bytes:
        """A SOAP message without its WS-Security header, which is another one each time."""
        return self.content(_SECURITY.sub(REDACTED.encode(), message))

    def form(self, form: Parameters) -> bytes:
        """A form, which only logins send."""
        return urlencode(
            [(name, self.text(value) if name in _SHOWN_OF_LOGINS else REDACTED) for name, value in form]
        ).encode()


def security_secrets(message: bytes) -> Iterator[str]:
    """What the WS-Security header of a SOAP message says of who asks."""
    for header in _SECURITY.findall(message):
        yield from (each.decode() for each in _SECURITY_SECRET.findall(header))


def secrets_of(config: object, name: str = "", *, is_sent: bool = False) -> Iterator[str]:
    """The values of a configuration that are secret by their type, as a URL's user part, or by their name.

    Names count in what the user sends: headers, parameters, bodies. Elsewhere the model says what is secret.
    """
    if isinstance(config, BaseModel):
        for key in type(config).model_fields:
            yield from secrets_of(getattr(config, key), is_sent=key in _SENT)
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from secrets_of(value, name if is_secret_name(name) else str(key), is_sent=is_sent)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from secrets_of(value, name, is_sent=is_sent)
    elif isinstance(config, SecretStr):
        yield config.get_secret_value()
        yield from _of_address(config.get_secret_value())
    elif isinstance(config, str | int | float) and not isinstance(config, bool):
        if is_sent and is_secret_name(name):
            yield str(config)
        yield from _of_address(str(config))


def sent_secrets(sent: Mapping[str, str], signature: str) -> Iterator[str]:
    """What of the headers of one request says who asked; `signature` names one more of them."""
    for name, value in sent.items():
        if name.lower() in ("authorization", "cookie", signature.lower()):
            yield value
            yield from _SIGNATURE.findall(value)
            yield from _COOKIE.findall(value)


def cookies(set_cookie: str) -> Iterator[str]:
    """The values of the cookies of an answer."""
    yield from _COOKIE.findall(set_cookie)


def _of_address(text: str) -> Iterator[str]:
    """The secrets in the user part and the parameters of what may be a URL, or a path with a query."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return
    if parts.password is not None:
        yield parts.password
        yield parts.netloc.rpartition("@")[0]
    for name, value in parse_qsl(parts.query):
        if is_secret_name(name):
            yield value


def _pattern(secrets: Iterable[str]) -> re.Pattern[bytes]:
    """These texts however they are written, with the padding of base64 that may follow.

    Placeholders are among them, so that what is redacted once stays as it is.
    """
    return re.compile(b"(?:" + written_anyhow(secrets, REDACTED) + b"|REDACTED)=*")


def _utf_8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _without(pattern: re.Pattern[bytes], content: bytes) -> bytes:
    """The content with placeholders, also within UTF-16, where escapes are of two bytes each."""
    for order in _UTF_16 if b"\0" in content and len(content) % 2 == 0 else ():
        text = _utf_8(content.decode(order, "surrogatepass"))
        found = replaced(pattern, _replaced, text)
        if found != text:
            content = found.decode("utf-8", "replace").encode(order)
    return replaced(pattern, _replaced, content)


def _replaced(found: re.Match[bytes]) -> bytes:
    return (_NUMBER if found[0].isdigit() else REDACTED).encode()


def _is_secret_header(name: str) -> bool:
    return is_secret_name(name) or name.lower() in _SECRET_HEADERS


def _masked(value: JsonValue, name: str = "") -> JsonValue:
    if isinstance(value, dict):
        return {key: _masked(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, name) for item in value]
    if value is None or isinstance(value, bool) or name in _SHOWN_OF_LOGINS:
        return value
    return REDACTED if isinstance(value, str) else 0


def _given_out(value: JsonValue, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _given_out(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _given_out(item, name)
    elif isinstance(value, str) and is_secret_name(name) and name not in _SHOWN_OF_LOGINS:
        yield value
