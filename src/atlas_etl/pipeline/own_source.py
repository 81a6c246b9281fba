"""A load that would write to what it reads: a definition whose source and destination are one database."""

from __future__ import annotations

from atlas_etl.contracts import Destination, Extract
from atlas_etl.errors import ConfigError
from atlas_etl.model import Stream, TableName, TableState


def refuse_own_source(
    extract: Extract, destination: Destination, stream: Stream, table: TableName, state: TableState
) -> None:
    """Raise ConfigError where the load's table is the one that is read, or somebody else's beside it.

    A table with rows that this stream never loaded is let be elsewhere (an append may add to it); in the
    source's own database it is most likely one of the application's.
    """
    if state.schema is None:
        return
    reads_it = str(table).casefold() in {str(read).casefold() for read in extract.tables}
    is_foreign = not state.empty and not state.loaded_by_atlas
    if not (reads_it or is_foreign):
        return
    place = extract.place()
    if place is None or place != destination.place():
        return
    what = (
        "is read by this stream"
        if reads_it
        else "has rows that it did not load, in the database that it reads"
    )
    raise ConfigError(
        f"the table {table} {what}; loading into it would change the source",
        hint="choose another table with `into`, or another destination",
        code="own_source",
        stream=stream.name,
    )
