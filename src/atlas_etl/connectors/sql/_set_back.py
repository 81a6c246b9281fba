"""What a person should know of a table that has lost whatever its checkpoint reached: it may count anew."""

from __future__ import annotations

from atlas_etl.model import CursorValue


def set_back(column: str, since: CursorValue | None, greatest: CursorValue | None) -> str | None:
    """The warning of a sync that read nothing from `since` on, not even what it had read before.

    `greatest` is the table's greatest cursor, which is less; None where no row is there that could be missed.
    The newest rows may have been deleted: a table that was truncated or restored looks the same.
    """
    if since is None or greatest is None:
        return None
    return (
        f"no row is left from {column} {since.text} on, where this sync went on; the greatest is now "
        f"{greatest.text}. That is well where they were deleted. Where the table was truncated, restored "
        f"from a backup or counts anew, what is new before {since.text} is not read: "
        "`atlas connector verify` compares, `atlas connector sync --full-refresh` reads everything"
    )
