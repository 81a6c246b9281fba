"""Names that a destination can hold: shortened with a hash, the same way every time, and never colliding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from string import ascii_lowercase, ascii_uppercase

from atlas_etl.errors import ConfigError

_HASH_DIGITS = 10
_NUL = "\0"
_SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)


def shorten(name: str, limit: int | None, *, size: Callable[[str], int]) -> str:
    """The name itself where it fits, else its beginning, `_` and ten hexadecimal digits of its SHA-256.

    `limit` is in the units of `size`. An empty name fits nowhere, nor does one with a NUL, which is left
    out; a JSON object may have both.
    """
    if name and _NUL not in name and (limit is None or size(name) <= limit):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]
    head = name.replace(_NUL, "")
    while limit is not None and size(head) > limit - _HASH_DIGITS - 1:
        head = head[:-1]
    return f"{head}_{digest}"


def folded_table(name: str) -> str:
    """A table's name in small letters, as SQLite and DuckDB compare names: of ASCII letters alone."""
    return name.translate(_SMALL)


def in_table(names: Sequence[str], there: Sequence[str], *, fold_case: bool, where: str) -> list[str]:
    """The names of columns as the table spells those that it has, where only the case may differ.

    `there` are the table's own. Raises ConfigError (`name_collision`) where two names would be one there.
    """
    _refuse_collisions(names, fold_case=fold_case, where=where)
    spelled = {name.casefold(): name for name in there} if fold_case else {}
    return [name if name in there else spelled.get(name.casefold(), name) for name in names]


def _refuse_collisions(names: Sequence[str], *, fold_case: bool, where: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        folded = name.casefold() if fold_case else name
        if folded in seen:
            raise ConfigError(
                f"columns {seen[folded]!r} and {name!r} would be one column in {where}",
                hint="read one of them with `exclude`, or rename one with a query",
                code="name_collision",
                column=name,
            )
        seen[folded] = name
