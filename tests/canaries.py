"""Canary secrets: texts that nobody else writes, told apart by where they were put, and the search for them.

The search knows nothing of how Atlas masks. It finds a canary by its first or its last twelve bytes, in any
of many encodings.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus

_SEEN = 12  # bytes in a row that prove it


@dataclass
class Canaries:
    """One canary for each place."""

    odd: str = "/4+ 9%&='\"$\\ü"
    """Characters that every escaping has its own way with."""
    texts: dict[str, str] = field(default_factory=dict)

    def at(self, place: str, *, odd: bool = True) -> str:
        """The canary of a place: always the same one."""
        name = "".join(part.capitalize() for part in place.replace("-", " ").split())
        return self.texts.setdefault(place, f"caNary{name}{self.odd if odd else ''}Zq7x{name[::-1]}")

    def found(self, content: Mapping[str, bytes]) -> list[str]:
        """`place in where` for each canary that stands in any of these."""
        return [
            f"{place} in {where}"
            for place, text in self.texts.items()
            for where, found in content.items()
            if any(piece in found for piece in pieces(text))
        ]


def pieces(text: str) -> set[bytes]:
    """What gives a text away: its first and last characters, in any encoding."""
    raw = text.encode()
    forms = {
        raw,
        *(form.encode() for form in (
            json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1],
            json.dumps(json.dumps(text))[3:-3],
            json.dumps(text)[1:-1].replace("/", "\\/"), quote(text), quote(text, safe=""), quote_plus(text),
            quote(text, safe="").replace("%2F", "%2f"), escape(text), repr(text)[1:-1], ascii(text)[1:-1],
            repr(raw)[2:-1], text.replace("'", "''"), raw.hex(),
        )),
    }  # fmt: skip
    for before in range(3):
        written = base64.b64encode(b"\0" * before + raw + b"\0" * 3)
        inner = written[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        forms |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {form[:_SEEN] for form in forms} | {form[-_SEEN:] for form in forms}


def files_below(folder: Path, but: Iterable[Path]) -> dict[str, bytes]:
    """Every file that was written, but for what a test wrote itself."""
    own = set(but)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path not in own
    }
