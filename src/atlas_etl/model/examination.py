"""What `connector doctor` looks at, and what it found: values that both ends give and the command shows."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from atlas_etl.errors import ExitCode
from atlas_etl.model.stream import Stream


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"  # good to know, or a check that could not be made
    WARNING = "warning"  # syncs work, and are slower or promise less than they could
    PROBLEM = "problem"  # a sync fails, or does not do what is expected of it


class Finding(Struct, frozen=True):
    """One check of one thing."""

    check: str  # what was looked at, the same name for every protocol: cursor_index, clock, connections
    subject: str  # of what: source, destination, state, a stream, or a column of one
    severity: Severity
    message: str  # what was seen and why it matters
    fix: str | None = None  # the statement to run, or the line to write, as it stands
    exit_code: ExitCode = ExitCode.SOURCE  # of the command, where this is a problem
    key: tuple[str, ...] = ()  # of the stream, where that is what was looked at


class Examination(Struct, frozen=True):
    """What is to be looked at: these streams of a connector, of which so many are read at once."""

    connector: str
    streams: tuple[Stream, ...]
    jobs: int = 1

    @property
    def sessions(self) -> int:
        """How many sessions their syncs have at the source at once, at most."""
        each = (stream.connections + (stream.connections > 1) for stream in self.streams)
        return sum(sorted(each, reverse=True)[: self.jobs])

    @property
    def loads(self) -> int:
        """How many sessions their syncs have at the destination at once, at most."""
        return min(self.jobs, len(self.streams))
