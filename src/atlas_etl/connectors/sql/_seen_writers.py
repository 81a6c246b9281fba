"""What a look for other sessions found before a snapshot, where a server names them by accounts."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Writers(Struct, frozen=True):
    """Who may still commit rows that the snapshot will not see."""

    began: datetime  # none of them began before this instant
    visible: bool  # else `began` is a bound and no proof
    replica: bool  # then those that write are elsewhere

    @property
    def unproven(self) -> str | None:
        """Why `began` is a bound and no proof; None where it is one."""
        if self.replica:
            return "the source is a replica"
        return None if self.visible else "its account does not see when other sessions began"
