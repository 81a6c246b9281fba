"""What loads are made of: rows in the form of their table, and the places where a load may end."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import pyarrow as pa
from msgspec import Struct

from atlas_etl.contracts import Extract
from atlas_etl.model import Checkpoint, RefusedRow, Window
from atlas_etl.pipeline.fitting import Fitting


class Portion(Struct, frozen=True):
    """Rows to be written, and those that were refused among them."""

    rows: pa.RecordBatch
    refused: Sequence[RefusedRow]

    @property
    def bytes(self) -> int:
        return int(self.rows.nbytes)


class LoadEnd(Struct, frozen=True):
    """A load may be committed here: what the extract tells of all the rows that it gave so far."""

    checkpoint: Checkpoint | None
    nulled: Mapping[str, int]
    warnings: tuple[str, ...]
    more: bool  # whether rows follow, for another load

    bytes = 0


def portions(extract: Extract, fitting: Fitting, window: Window) -> Generator[Portion | LoadEnd, None, None]:
    """Every row of the extract, with a LoadEnd behind each full window and one at the end."""
    rows = size = 0
    for batch, refused in fitting.fitted(extract):
        yield Portion(batch, refused)
        rows, size = rows + batch.num_rows + len(refused), size + batch.nbytes
        reached = extract.reached() if window.is_full(rows, size) else None
        if reached is not None:
            yield LoadEnd(reached, dict(extract.nulled()), tuple(extract.warnings()), more=True)
            rows = size = 0
    checkpoint = extract.checkpoint()
    yield LoadEnd(checkpoint, dict(extract.nulled()), tuple(extract.warnings()), more=False)
