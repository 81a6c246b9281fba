"""What a connector or a destination may also be: one that can be looked at closely.

A protocol that has no such checks does without; `connector doctor` says so then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from atlas_etl.model import Examination, Finding


@runtime_checkable
class ExaminedSource(Protocol):
    """A Connector that knows what makes syncs of its streams slow, weak or impossible."""

    def examine(self, examination: Examination) -> Iterator[Finding]:
        """Look at the system and each stream. Call after `test`.

        Only reads, by a few statements or requests that are bounded in time. A check that cannot be made is
        a finding that says why; only reaching the system raises SourceError.
        """


@runtime_checkable
class ExaminedDestination(Protocol):
    """A Destination that knows what would keep loads of these streams from being written."""

    def examine(self, examination: Examination) -> Iterator[Finding]:
        """As a source's; raises DestinationError. A file that proves a folder writable is removed again."""
