"""What a GraphQL server says went wrong, which it mostly says in an answer 200.

Errors are an error also where data comes with them: nobody could tell which records are missing
(https://spec.graphql.org/October2021/#sec-Errors).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from atlas_etl.connectors.http._documents.records import BYTE_ORDER_MARK
from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._network.failures import StatusError, status_error, without_values
from atlas_etl.connectors.http._network.rate_limits import asked_wait
from atlas_etl.errors import SourceError

_MAY_PASS = frozenset(
    {
        "RATE_LIMITED", "RATE_LIMIT", "RATELIMITED", "RATE_LIMIT_EXCEEDED", "THROTTLED", "TOO_MANY_REQUESTS",
        "INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT",
    }
)  # fmt: skip
_LOGIN = frozenset({"UNAUTHENTICATED", "UNAUTHORIZED", "FORBIDDEN", "ACCESS_DENIED", "INSUFFICIENT_SCOPES"})
_DESCRIBED = frozenset({200, 400, 422})  # statuses of which the errors say more than the number

_NULL = msgspec.Raw(b"null")


class _Answer(msgspec.Struct):
    data: msgspec.Raw = _NULL
    errors: msgspec.Raw = _NULL


class _Left(msgspec.Struct):
    available: float = msgspec.field(default=0, name="currentlyAvailable")
    restore_rate: float = msgspec.field(default=0, name="restoreRate")  # points a second


class _Cost(msgspec.Struct):
    requested: float = msgspec.field(default=0, name="requestedQueryCost")
    throttle_status: _Left = msgspec.field(default_factory=_Left, name="throttleStatus")


class _Extensions(msgspec.Struct):
    cost: _Cost = msgspec.field(default_factory=_Cost)


class _Costly(msgspec.Struct):
    extensions: _Extensions = msgspec.field(default_factory=_Extensions)


_COSTLY = msgspec.json.Decoder(_Costly)
_ANSWER = msgspec.json.Decoder(_Answer)


class _Error(Struct, frozen=True):
    message: str
    code: str | None


def refusal(request: Request, response: Response) -> SourceError | None:
    """What an answer says went wrong, by its status or its errors; None for one to be read."""
    failure = status_error(request, response) if response.status >= 300 else None
    if response.status not in _DESCRIBED:
        return failure
    try:
        answer = _ANSWER.decode(response.content.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, RecursionError):
        return failure  # it is refused where it is read
    errors = _errors(answer.errors)
    if errors:
        return _described(request, response, errors)
    if failure is None and answer.data == _NULL:
        return SourceError(
            f"{shown(request.url)} answered with neither data nor errors",
            hint="check that `endpoint` is where the API takes GraphQL queries",
            code="graphql_error",
        )
    return failure


def _errors(raw: msgspec.Raw) -> list[_Error]:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # a number beyond all doubles, say
        found = "its errors cannot be read"
    if not found:
        return []
    return [_error(each) for each in found] if isinstance(found, list) else [_error(found)]


def _error(found: object) -> _Error:
    if not isinstance(found, Mapping):
        return _Error(str(found), None)
    extensions = found.get("extensions")
    inner = extensions if isinstance(extensions, Mapping) else {}
    codes = (inner.get("code"), inner.get("type"), found.get("type"), found.get("code"))
    code = next((code for code in codes if isinstance(code, str) and code), None)
    return _Error(str(found.get("message") or "it says no more"), code)


def _described(request: Request, response: Response, errors: Sequence[_Error]) -> SourceError:
    first = errors[0]
    codes = {(error.code or "").upper() for error in errors}
    query = request.body.get("query") if isinstance(request.body, Mapping) else None
    text = without_values(first.message, str(query or ""))
    named = f" ({first.code[:40]})" if first.code is not None and first.code.isidentifier() else ""
    more = f", and {len(errors) - 1} more errors" if len(errors) > 1 else ""
    may_pass = codes <= _MAY_PASS
    failure = StatusError(
        f"{shown(request.url)} did not answer the query{named}: {text}{more}",
        hint=_hint(codes, may_pass=may_pass),
        code="graphql_throttled" if may_pass else "graphql_error",
        retryable=may_pass,
    )
    failure.wait = asked_wait(response.headers)
    if failure.wait is None and may_pass:
        failure.wait = _until_affordable(response.content)
    return failure


def _until_affordable(content: bytes) -> float | None:
    """The seconds until a query can be paid that was refused for its cost: what is missing comes back evenly.

    https://shopify.dev/docs/api/usage/limits#rate-limits, which others answer like.
    """
    try:
        cost = _COSTLY.decode(content.removeprefix(BYTE_ORDER_MARK)).extensions.cost
    except msgspec.DecodeError:
        return None
    left = cost.throttle_status
    if left.restore_rate <= 0:
        return None
    return max(0.0, (cost.requested - left.available) / left.restore_rate)


def _hint(codes: set[str], *, may_pass: bool) -> str:
    if may_pass:
        return "set `requests_per_minute`, ask for fewer records at once, or sync later"
    if codes & _LOGIN:
        return "check the credentials under `auth`, and what they may read"
    return "check the resource's `query` and `variables`; nothing of the answer was loaded"
