"""What the history keeps of `connector verify`: how many rows were equal, and never which."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class VerifyMode(StrEnum):
    """What was done beside looking."""

    COMPARE = "compare"
    REPAIR = "repair"


class Verification(Struct, frozen=True):
    """One stream, compared with its source by `verified_at`; of the source, rows up to the checkpoint.

    A repair leaves two: what it found, and what it left.
    """

    connector: str
    stream: str
    verified_at: datetime
    seconds: float
    mode: VerifyMode
    source_rows: int
    destination_rows: int
    missing: int = 0
    extra: int = 0
    changed: int = 0
    pending: int = 0
    quarantined: int = 0

    @property
    def is_equal(self) -> bool:
        return not (self.missing or self.extra or self.changed)
