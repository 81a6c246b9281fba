"""A run that goes on, of a slot."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_etl.model import Slot
from atlas_etl.scheduler.agenda import Scheduled
from atlas_etl.scheduler.ongoing import Ongoing


@dataclass(slots=True, kw_only=True)
class Running(Ongoing):
    """A slot whose run was begun here."""

    slot: Slot
    rules: Scheduled
