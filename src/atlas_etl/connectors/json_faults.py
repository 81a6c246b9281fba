"""Why bytes are no JSON, in words for people."""

from __future__ import annotations

import re

_LONGEST = 80  # characters
_HALF_PAIR = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # whole pairs are passed over
    rb"|u([dD][89a-fA-F][0-9a-fA-F]{2})(?=[^\\]|\\[^u]|\\u[0-9a-fA-F]{4})"
    rb"|.)",
    re.DOTALL,
)
JOIN_HALVES = "a character past \\uffff is two such escapes, one behind the other; write both, or neither"


def fault_of(content: bytes, failure: Exception) -> str:
    """What is wrong with the content that msgspec refused with this DecodeError or RecursionError."""
    if isinstance(failure, RecursionError):
        return "it is nested too deeply"
    half = half_pair(content)
    if half is not None:  # msgspec calls one at the end of a text truncated
        return f"{half} is half of a character, without its other half"
    return str(failure).removeprefix("JSON is malformed: ")[:_LONGEST]


def half_pair(content: bytes) -> str | None:
    """The first escape that is one half of a UTF-16 surrogate pair alone, which no text may have.

    One at the very end of the content may only be cut off, and is none.
    """
    halves = (found[1] for found in _HALF_PAIR.finditer(content))
    return next((f"\\u{half.decode()}" for half in halves if half is not None), None)
