"""What becomes of a column that no copy may have as it is."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Protection(StrEnum):
    """How a column's values are kept from whoever sees the copy; NULL stays NULL."""

    HASH = "hash"  # a keyed hash: equal values are equal, and nothing turns one back
    MASK = "mask"  # *** and, where it is wanted, the first or last characters
    DROP = "drop"  # the column is not read
    TOKENIZE = "tokenize"  # a token that the key turns back


class Rule(Struct, frozen=True):
    """What happens to one column. Of a mask, so many characters stay at either end."""

    how: Protection
    keep_first: int = 0
    keep_last: int = 0

    @property
    def tells_apart(self) -> bool:
        """Whether values that differ still do."""
        return self.how in (Protection.HASH, Protection.TOKENIZE)

    def __str__(self) -> str:
        kept = {"first": self.keep_first, "last": self.keep_last}
        ends = " and ".join(f"{end} {count}" for end, count in kept.items() if count)
        return f"{self.how}, but the {ends}" if ends else str(self.how)
