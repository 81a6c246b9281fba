"""How the lists of one stream are read."""

from __future__ import annotations

from msgspec import Struct, field

from atlas_etl.connectors.http._error_objects import ErrorObjects
from atlas_etl.connectors.http._incremental.read_time import ReadTime
from atlas_etl.connectors.http._incremental.since import Newest
from atlas_etl.connectors.http._incremental.windows import Windows
from atlas_etl.connectors.http._parents.looked_at import LookedAt
from atlas_etl.connectors.http._parents.parent_bounds import ParentBounds
from atlas_etl.connectors.http._prior.given import NOTHING_GIVEN, GivenNames
from atlas_etl.model import CursorValue


class Reading(Struct, frozen=True):
    """What is the same for every list of a stream, and how far it was read before."""

    key: tuple[str, ...] = ()
    merges: bool = False
    cursor: str | None = None
    newest: Newest | None = None
    since: CursorValue | None = None
    limit: int | None = None  # of records that are wanted
    timezone: str | None = None
    windows: Windows | None = None
    parents: ParentBounds | None = None  # None: nothing tells which of their records are new
    time: ReadTime = field(default_factory=ReadTime)
    looked: LookedAt | None = None  # None: how far parents were looked at is not kept
    given: GivenNames = NOTHING_GIVEN
    errors: ErrorObjects = field(default_factory=ErrorObjects)
    notes: list[str] = field(default_factory=list)  # what a person should know of it
