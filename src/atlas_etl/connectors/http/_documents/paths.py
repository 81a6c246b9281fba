"""Paths into a JSON document, as definitions write them.

A path is JSONPath's plainest part: names with dots between them, and `[*]` or `*` for every item, e.g.
`data`, `result.items`, `edges[*].node`; `$` or nothing is the document itself. One item of a list is chosen
by what a member of it is: `links[rel=next].href`.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str, ...]

EVERY: Final = "*"
_STEP = re.compile(r"\.?(?:\[\s*(\*|'[^']*'|\"[^\"]*\")\s*\]|\[\s*(\w+)\s*=\s*(\w+)\s*\]|([^.\[\]]+))")
_PLAIN = re.compile(r"[^.\[\]]+")  # a step that needs no quotes


class Chosen(str):
    """A step of a path to the item of a list whose `member` is `text`."""

    member: str
    text: str

    def __new__(cls, member: str, text: str) -> Chosen:
        made = super().__new__(cls, f"{member}={text}")
        made.member, made.text = member, text
        return made


def parse_path(text: str) -> Path:
    """The steps of a path. Raises ValueError."""
    rest = text.strip().removeprefix("$")
    steps: list[str] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None:
            raise ValueError(
                f"is no path: write names with dots between them, such as data.items, not {text!r}"
            )
        quoted, member, text, plain = found.groups()
        if member is not None:
            steps.append(Chosen(member, text))
        else:
            steps.append(plain.strip() if plain is not None else quoted.strip("'\""))
        at = found.end()
    return tuple(steps)


def written_path(path: Path) -> str:
    """The text that `parse_path` reads as these steps."""
    text = "".join(map(_written_step, path))
    return f"${text}" if text.startswith(".$") else text.removeprefix(".")


def _written_step(step: str) -> str:
    if isinstance(step, Chosen):
        return f"[{step.member}={step.text}]"
    return f".{step}" if _PLAIN.fullmatch(step) else f"['{step}']"
