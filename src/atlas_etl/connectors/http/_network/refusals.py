"""What the body of a refusal says, in its server's words: a message in JSON, without what may be values."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
from pydantic import JsonValue

_LONGEST = 64 * 1024  # bytes of a body that is looked at
_DEEPEST = 3
# Of RFC 6749 and 9457, JSON:API, and APIs such as GitHub, Stripe, Square, QuickBooks, Shopify, Salesforce.
_MESSAGES = ("message", "error_description", "detail", "msg", "title", "description", "reason", "exception")
_WITHIN = ("error", "errors", "fault", "exc_type")


# GitHub's secondary limit, Salesforce's REQUEST_LIMIT_EXCEEDED, Google's rateLimitExceeded, and others'.
_TOO_MANY = re.compile(
    r"(?i)rate[ _-]?limit|throttl|request[ _-]?limit[ _-]?exceeded|too[ _-]?many[ _-]?requests"
)


def said(content: bytes) -> str:
    """The first line of the message; empty where there is none that is known as one."""
    return next(
        (line for text in _messages(_decoded(content)) if (line := text.strip().partition("\n")[0])), ""
    )


def says_too_many(content: bytes) -> bool:
    """Whether any text in it, a code as well as a message, says that there were too many requests."""
    return any(_TOO_MANY.search(text) for text in _texts(_decoded(content)))


def _decoded(content: bytes) -> JsonValue:
    if not content or len(content) > _LONGEST:
        return None
    try:
        found: JsonValue = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found


def _texts(value: JsonValue, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth <= _DEEPEST and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner, depth + 1)


def _messages(value: JsonValue, depth: int = 0) -> Iterator[str]:
    """Those of an object, of what it has for its errors, and of the first of a list."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str) and depth:
        yield value
    if not isinstance(value, dict) or depth > _DEEPEST:
        return
    members = {name.lower(): member for name, member in value.items()}
    for name in _MESSAGES:
        if isinstance(text := members.get(name), str):
            yield text
    for name in _WITHIN:
        yield from _messages(members.get(name), depth + 1)
