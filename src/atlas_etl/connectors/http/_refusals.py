"""What the body of a refusal says, in its server's words: a message in JSON, without what may be values."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from pydantic import JsonValue

_LONGEST = 64 * 1024  # bytes of a body that is looked at
_DEEPEST = 3
# Of RFC 6749 and 9457, JSON:API, and APIs such as GitHub, Stripe, Square, QuickBooks, Shopify, Salesforce.
_MESSAGES = ("message", "error_description", "detail", "msg", "title", "description", "reason", "exception")
_WITHIN = ("error", "errors", "fault", "exc_type")


def said(content: bytes) -> str:
    """The first line of the message; empty where there is none that is known as one."""
    if not content or len(content) > _LONGEST:
        return ""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return next((line for text in _messages(found) if (line := text.strip().partition("\n")[0])), "")


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
