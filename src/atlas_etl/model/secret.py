"""What is known of a secret by whoever has no key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """An encrypted secret: which key opens it, and when it was last given another value."""

    key_id: str
    token: bytes = field(repr=False)
    updated_at: datetime
