"""Wires that write what passes to a cassette, and that answer from one without any network."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit

from atlas_etl.connectors.base import Tape
from atlas_etl.connectors.http._auth.schemes import Credentials
from atlas_etl.connectors.http._cassettes.cassette import CassetteWriter, Interaction, read_cassette
from atlas_etl.connectors.http._cassettes.redaction import (
    REDACTED,
    Redaction,
    cookies,
    secrets_of,
    security_secrets,
    sent_secrets,
)
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._settings.connection import HttpConnection
from atlas_etl.connectors.http._wire import Network, Wire
from atlas_etl.errors import SourceError

log = logging.getLogger(__name__)

_Key: TypeAlias = tuple[str, str, bytes]

_CUT = "its end is missing, for the recording was broken off"


def wiring(tape: Tape, *more: object) -> Callable[[HttpConnection], Wire]:
    """The wire that a tape asks for; `more` settings may have secrets, too.

    Calling it raises ConfigError and UsageError (`cassette`).
    """

    def made(config: HttpConnection) -> Wire:
        return _WIRES[tape.use](tape, config, Redaction((*secrets_of((config, *more)), *tape.secrets)))

    return made


class Recording:
    """The network, whose requests and answers are written down, redacted."""

    def __init__(self, tape: Tape, config: HttpConnection, redaction: Redaction) -> None:
        self._at = datetime.now(UTC)
        self._redaction = redaction
        self._config = config
        self._cursors = _cursor_headers(config)
        self._network = Network(config)
        self._cassette = CassetteWriter(tape.path, self._at)

    def send(self, request: Request, who: Credentials, *, is_home: bool) -> Response:
        found = self._redaction
        found.learn((*who.headers.values(), *who.params.values()))
        if who.refresh_token is not None:
            found.learn((who.refresh_token.get_secret_value(),))
        response = self._network.send(request, who, is_home=is_home)
        once = {
            *sent_secrets(response.sent, self._config.auth.signature_header),
            *security_secrets(request.content or b""),
            *cookies(response.headers.get("set-cookie", "")),
        }
        method, url, body = _key(found, request, who)
        own = {**self._config.headers, **request.headers} if is_home else {}
        content = found.login(response.content) if request.is_login else response.content
        answer = Response(
            response.status,
            found.headers(_decoded(response), shown=self._cursors, once=once),
            found.content(content, once),
            url,
        )
        headers = {**found.headers(own), **dict.fromkeys(who.headers, REDACTED)}
        self._cassette.append(Interaction(method, url, body, headers, answer, request.is_login))
        return response

    def refuse_inside(self, url: str) -> None:
        self._network.refuse_inside(url)

    def now(self) -> datetime:
        """When it began: what was asked for until then can be asked for again."""
        return self._at

    def pause(self, seconds: float, why: str = "") -> None:
        self._network.pause(seconds, why)

    def close(self) -> None:
        self._network.close()
        self._cassette.close()


class Replay:
    """The answers of a cassette, in whatever order they are asked for, at the time when it was recorded."""

    def __init__(self, tape: Tape, _: HttpConnection, redaction: Redaction) -> None:
        cassette = read_cassette(tape.path)
        self._path = tape.path
        self._at = cassette.recorded_at
        self._is_cut = cassette.is_cut
        if cassette.is_cut:
            log.warning(
                "%s: %s; %s", tape.path.name, _CUT, f"{len(cassette.interactions):,} answers are whole"
            )
        self._redaction = redaction
        self._lock = threading.Lock()
        self._answers: dict[_Key, deque[Response]] = defaultdict(deque)
        for each in cassette.interactions:
            self._answers[each.method, each.url, each.body].append(each.response)

    def send(self, request: Request, who: Credentials, *, is_home: bool) -> Response:  # noqa: ARG002
        key = _key(self._redaction, request, who)
        with self._lock:
            known = key in self._answers
            left = self._answers[key] if known else deque[Response]()
            # A login gives the same for as long as it is asked.
            if left:
                return left[0] if request.is_login and len(left) == 1 else left.popleft()
        where = f"{request.method} {shown(request.url)}"
        raise SourceError(
            f"{self._path.name} has no {'further ' if known else ''}answer to {where}",
            hint=f"{_CUT}: record it again"
            if self._is_cut
            else f"it was recorded with another definition{self._nearest(key)}, or from another checkpoint: "
            "`--full-refresh` on both asks for everything; or the recording was broken off",
            code="not_recorded",
        )

    def _nearest(self, key: _Key) -> str:
        """In what the recorded request that is most like it differs; values may be secret, names are not."""
        apart = (_apart(key, each) for each in self._answers if _place(each) == _place(key))
        names = min((each for each in apart if each), key=len, default=[])
        return f" (it has another {', '.join(names[:5])})" if names else ""

    def refuse_inside(self, url: str) -> None:
        """Nothing is asked, so no address is looked up."""

    def now(self) -> datetime:
        return self._at

    def pause(self, seconds: float, why: str = "") -> None:
        """Nobody asks to wait."""

    def close(self) -> None:
        """There is nothing open."""


def _place(key: _Key) -> tuple[str, str]:
    method, url, _ = key
    return method, url.partition("?")[0]


def _apart(key: _Key, other: _Key) -> list[str]:
    """The parameters that two requests for one place do not share, and their bodies."""
    queries = set(parse_qsl(urlsplit(key[1]).query)) ^ set(parse_qsl(urlsplit(other[1]).query))
    return sorted({name for name, _ in queries}) + (["body"] if key[2] != other[2] else [])


def _key(redaction: Redaction, request: Request, who: Credentials) -> _Key:
    url = redaction.url(request.url, (*request.params, *((name, REDACTED) for name in who.params)))
    if request.content is not None:
        return request.method, url, redaction.message(request.content)
    if request.form and request.body is None:
        return request.method, url, redaction.form(request.form)
    return request.method, url, redaction.body(request.body, is_login=request.is_login)


def _decoded(response: Response) -> dict[str, str]:
    """The headers of an answer, whose content is without encodings by now."""
    left_out = ("content-encoding", "content-length", "transfer-encoding")
    return {name: value for name, value in response.headers.items() if name not in left_out}


def _cursor_headers(config: HttpConnection) -> Iterable[str]:
    """The headers by which pages follow each other, whatever their names sound like."""
    paginations = [config.pagination, *(each.pagination for each in config.resources.values())]
    return {each.header for each in paginations if each is not None and each.header is not None}


_WIRES: Mapping[str, Callable[[Tape, HttpConnection, Redaction], Wire]] = {
    "record": Recording,
    "replay": Replay,
}
