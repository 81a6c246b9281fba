"""What goes wrong between us and an API, in the words of the error tree. Nothing of a query is shown."""

from __future__ import annotations

import re

import requests
import urllib3

from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._network.deadline import is_past_deadline
from atlas_etl.connectors.http._network.rate_limits import asked_wait
from atlas_etl.connectors.http._network.refusals import said, says_too_many
from atlas_etl.errors import MissingDriverError, SourceError
from atlas_etl.http_statuses import MAY_PASS
from atlas_etl.redactor import redacted

_PROXY = "give the proxy's credentials in `proxy`, as http://user:password@host:port"
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_NOT_YET = 202  # accepted: RFC 9110, section 15.3.3
_FOR_429 = frozenset({400, 403, 420})  # some say one of these for 429
_SHOWN = 200  # characters of a server's message
_QUOTED = r"""(?<!\w)(?P<quote>["'`]).+?(?P=quote)(?!\w)"""
_DIGITS = r"[^\s,;()\[\]{}]*[0-9@][^\s,;()\[\]{}]*"
_VALUE = re.compile(rf"{_QUOTED}|{_DIGITS}|\w{{21,}}")  # what may be one, and not the server's own words
_SLOW = frozenset({"timeout", "too_slow"})


class StatusError(SourceError):
    """An answer that is no success, and how long its server asks to wait."""

    wait: float | None = None


def may_pass(failure: BaseException | None) -> bool:
    return isinstance(failure, SourceError) and failure.retryable


def was_slow(failure: SourceError) -> bool:
    """Whether it took all the time that a request has: seconds, or minutes."""
    return failure.code in _SLOW


def refusal(request: Request, response: Response) -> SourceError | None:
    """What an answer says went wrong, by its status; None for one to be read."""
    if request.wants_records and request.method == "GET" and response.status == _NOT_YET:
        return status_error(request, response)
    if response.status < 300 or (response.status in request.empty_on and not _asks_for_patience(response)):
        return None
    return status_error(request, response)


def status_error(request: Request, response: Response, *, was_renewed: bool = False) -> SourceError:
    """The error for an answer; `was_renewed`: it did not take credentials that were new either."""
    status = 429 if _asks_for_patience(response) else response.status
    hints = {
        _NOT_YET: "the API has yet to make what was asked for: sync later, or describe it as a `job`",
        401: "a new token was refused as well: check what it is for, and the rights of its owner"
        if was_renewed
        else "check the credentials under `auth`",
        403: "these credentials may not read it: check their rights, or what they are for",
        404: "check `base_url` and the resource's `path`",
        407: _PROXY,
        429: "the API allows no more requests for now: set `requests_per_minute`, or sync less often",
    }
    told = "" if request.is_login else without_values(said(response.content), "")
    failure = StatusError(
        f"{request.method} {shown(request.url)} was answered with {response.status}"
        + (f": {told}" if told else ""),
        hint=hints.get(
            status,
            "see what the API says, and its documentation"
            if told
            else "the server says no more; its own documentation may",
        ),
        code=f"http_{status}",
        retryable=status in MAY_PASS or status == _NOT_YET,
    )
    failure.wait = asked_wait(response.headers)
    return failure


def _asks_for_patience(response: Response) -> bool:
    """A 403 with nothing left, or a time to wait, or a 400 or 403 that says so, where others say 429.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    headers = response.headers
    is_told = response.status == 403 and (
        "retry-after" in headers or headers.get("x-ratelimit-remaining", "").strip() == "0"
    )
    return is_told or (response.status in _FOR_429 and says_too_many(response.content))


def unreachable(url: str, failure: Exception) -> SourceError:
    where = shown(url)
    if is_past_deadline(failure):
        return too_slow(where, "its answer was not whole by its deadline")
    if isinstance(failure, requests.exceptions.SSLError):
        return SourceError(
            f"{where} has no certificate that is trusted",
            hint="name the one that signed it with `ca_bundle`",
            code="untrusted_certificate",
        )
    if isinstance(failure, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        why, code = "it did not answer in time", "timeout"
    elif isinstance(failure, requests.exceptions.ProxyError):
        if (told := _TUNNEL.search(str(failure))) is not None:
            return SourceError(
                f"{where}: the proxy answered with {told[1]}",
                hint=_PROXY if told[1] == "407" else "check that the proxy may reach it",
                code=f"http_{told[1]}",
                retryable=int(told[1]) in MAY_PASS,
            )
        why, code = "the proxy cannot be reached", "unreachable"
    elif isinstance(failure, requests.ConnectionError):
        why, code = "it cannot be reached", "unreachable"
    elif isinstance(failure, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return no_url(url)
    elif isinstance(failure, requests.exceptions.InvalidHeader | UnicodeError) and not _is_of_answer(failure):
        return SourceError(
            f"{where} was not asked: a header's value has a character that no header can have",
            hint="check `headers` and the credentials under `auth`",
            code="invalid_header",
        )
    else:
        why, code = "the connection broke while it answered", "incomplete"
    return SourceError(
        f"{where}: {why}",
        hint="check the address, and that this machine may reach it",
        code=code,
        retryable=True,
    )


def no_url(url: str) -> SourceError:
    return SourceError(f"{shown(url)} is no URL", hint="check `base_url` and `path`", code="invalid_url")


def _is_of_answer(failure: Exception) -> bool:
    """Whether it is an answer's header that is wrong: lengths that contradict each other, say."""
    return any(isinstance(each, urllib3.exceptions.InvalidHeader) for each in failure.args)


def refused(url: str, why: str) -> SourceError:
    return SourceError(
        f"a link or redirect to {shown(url)} was not followed: {why}",
        hint="if it is meant, make that address the `base_url`",
        code="refused_redirect",
    )


def missing_extra(what: str, package: str, *, extra: str) -> MissingDriverError:
    return MissingDriverError(
        f"{what} needs the package {package!r}, which is not installed",
        hint=f'pip install "atlas-etl[{extra}]"',
    )


def too_slow(where: str, why: str) -> SourceError:
    return SourceError(
        f"{where}: {why}",
        hint="ask for smaller pages, or set `request_timeout`, `page_timeout` or `least_rate`",
        code="too_slow",
        retryable=True,
    )


def too_large(where: str, most: int) -> SourceError:
    return SourceError(
        f"{where} sends more than {most / 2**20:.3g} MiB in one answer, as it comes or unpacked",
        hint="ask for smaller pages, or raise `largest_page`",
        code="too_large",
    )


def without_values(message: str, asked: str) -> str:
    """A server's message, its first line; of what may be values, only what was asked with."""
    known = set(re.findall(r"\w+", asked))
    line = redacted(message).strip().partition("\n")[0]  # whole: what is cut off would not be known as one
    return _VALUE.sub(
        lambda found: found[0] if known.issuperset(re.findall(r"\w+", found[0])) else "...",
        line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ...",
    )
