"""Paths of keys inside a configuration, and the text by which people know them."""

from __future__ import annotations

import re
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[\w-]+")


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
