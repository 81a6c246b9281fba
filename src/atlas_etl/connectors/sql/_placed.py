"""Statements in which the marks of parameters become what a driver takes."""

from __future__ import annotations

import re
from collections.abc import Callable

# Texts and names of every system, in which a question mark is no parameter.
_TOKENS = re.compile(r"""N?'(?:[^']|'')*'|\[(?:[^\]]|\]\])*\]|"(?:[^"]|"")*"|\?(?P<number>\d*)""")


def placed(sql: str, write: Callable[[int], str]) -> str:
    """Each `?` in its order, and each `?2` by its number, as `write` has the parameter of that number."""
    following = iter(range(1, len(sql) + 1))

    def put(found: re.Match[str]) -> str:
        number = found["number"]
        if number is None:
            return found[0]
        return write(int(number) if number else next(following))

    return _TOKENS.sub(put, sql)
