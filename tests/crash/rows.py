"""Rows as canonical text, and in what two multisets of them differ."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from atlas_etl.model import Disposition

STREAMS = {"appended": Disposition.APPEND, "merged": Disposition.MERGE}  # tables without and with a key
COLUMNS = ("id", "changed_at", "amount", "note", "version")
CURSOR = "changed_at"

Row = tuple[str | None, ...]

_CENTS = Decimal("0.01")
_NOTES = ("", "plain", "a,b", 'say "so"', "two\nlines", "back\\slash", "NULL", "é 漢 😀", "  spaces  ", "\t")


def canonical(values: Sequence[object]) -> Row:
    """One row of COLUMNS as text: instants in UTC with microseconds, amounts with two digits."""
    row_id, changed_at, amount, note, version = values
    return (
        str(row_id),
        _instant(changed_at),
        f"{Decimal(str(amount)).quantize(_CENTS):f}",
        None if note is None else str(note),
        str(version),
    )


def _instant(value: object) -> str:
    """Cursors are instants on servers and whole numbers in files."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if value.isdecimal():
            return value
        value = datetime.fromisoformat(value)
    assert isinstance(value, datetime), value
    known = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return known.replace(tzinfo=None).isoformat(timespec="microseconds")


def some_note(dice: random.Random) -> str | None:
    """A text that is easily mangled, or none."""
    return None if dice.random() < 0.2 else dice.choice(_NOTES)


def some_amount(dice: random.Random) -> str:
    return f"{dice.randint(-10_000_000, 10_000_000) / 100:.2f}"


@dataclass(frozen=True, slots=True)
class Difference:
    """What a destination has too few and too many of; equal multisets have neither."""

    lost: Counter[Row]  # at the source and not at the destination
    doubled: Counter[Row]  # at the destination more often than at the source, where it is there
    unknown: Counter[Row]  # at the destination and not at the source: old versions, torn or invented rows

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.unknown)

    def __add__(self, other: Difference) -> Difference:
        return Difference(self.lost + other.lost, self.doubled + other.doubled, self.unknown + other.unknown)

    def __str__(self) -> str:
        return ", ".join(
            f"{rows.total()} {what} such as {next(iter(rows))}"
            for what, rows in (("lost", self.lost), ("doubled", self.doubled), ("unknown", self.unknown))
            if rows
        )


def compare(source: Iterable[Row], destination: Iterable[Row]) -> Difference:
    """The two multisets, both ways."""
    there, here = Counter(source), Counter(destination)
    extra = here - there
    return Difference(
        lost=there - here,
        doubled=Counter({row: count for row, count in extra.items() if row in there}),
        unknown=Counter({row: count for row, count in extra.items() if row not in there}),
    )
