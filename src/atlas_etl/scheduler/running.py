"""A run that goes on, of a slot."""

from __future__ import annotations

from atlas_etl.model import Slot
from atlas_etl.scheduler.agenda import Scheduled
from atlas_etl.scheduler.ongoing import Ongoing


class Running(Ongoing, kw_only=True):
    """A slot whose run was begun here."""

    slot: Slot
    rules: Scheduled
