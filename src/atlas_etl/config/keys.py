"""Paths of keys inside a configuration, and the text by which people know them."""

from __future__ import annotations

import re
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[\w-]+")
_ITEM = re.compile(r"(\w+)\[(\d+)\]")


def dotted(path: KeyPath) -> str:
    """`streams[0].cursor`; a key that is not a plain word is quoted: `headers["a.b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def parse_key(text: str) -> KeyPath:
    """The path of a key as it is given on a command line: names with dots, behind `streams[0]` or a name.

    Further brackets are of names: parameters of APIs are called `filter[status]`.
    """
    first, *names = text.split(".")
    item = _ITEM.fullmatch(first)
    return (item[1], int(item[2]), *names) if item else (first, *names)
