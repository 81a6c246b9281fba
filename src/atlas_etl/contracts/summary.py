"""What tells about many runs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from atlas_etl.model import RunSummary, Span


class RunSummaries(Protocol):
    """Runs summed where they are kept: what is read depends on what is shown, not on how many runs there are.

    Raises StateError.
    """

    def spans(self, bounds: Sequence[datetime]) -> Mapping[str, Sequence[Span]]:
        """By connector, a Span between each two neighbours of `bounds`; of connectors that ran in one.

        The bounds ascend, and there are a few hundred of them at the most.
        """

    def summary(self, connector: str, since: datetime, until: datetime, *, most: int) -> RunSummary:
        """What the runs that started in this time come to, with at most so many failures and changes."""
