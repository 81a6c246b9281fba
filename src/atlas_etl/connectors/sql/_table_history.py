"""When a table got its rows, and from whom: what the ledger's lines tell of them together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec import Struct

_NEVER = datetime.min.replace(tzinfo=UTC)


class TableHistory(Struct, frozen=True):
    """The latest lines of each kind, as one stream sees its table; None where there is none."""

    latest: datetime | None = None
    ours: datetime | None = None
    of_others: datetime | None = None
    replaced: datetime | None = None  # by this stream
    joined: datetime | None = None  # by this stream: there were rows before
    emptied: datetime | None = None  # what was there until then is gone

    @property
    def is_loaded(self) -> bool:
        """Whether the table may have rows of this stream."""
        return is_after(self.ours, self.emptied)

    @property
    def is_shared(self) -> bool:
        """Whether the table may have rows of others: of another stream, or from before the first load."""
        return any(
            is_after(found, self.emptied) and is_after(found, self.replaced)
            for found in (self.of_others, self.joined)
        )


def following(before: datetime | None) -> datetime:
    """Now; past the commit before, where this machine's clock is behind the one that told of it."""
    now = datetime.now(UTC)
    return now if before is None else max(now, before + timedelta(microseconds=1))


def is_after(one: datetime | None, other: datetime | None) -> bool:
    """Whether a line is past another; one that is not there is before all others."""
    return (one or _NEVER) > (other or _NEVER)
