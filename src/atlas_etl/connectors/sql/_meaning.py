"""What an error of a system means for a person: our error, with a code and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_etl.errors import AtlasError, DestinationError, SourceError

Failure = type[SourceError] | type[DestinationError]  # by whether the system is read or written


@dataclass(frozen=True, slots=True)
class Meaning:
    """The code and the hint of an error, and whether a retry may help."""

    code: str
    hint: str | None = None
    retryable: bool = False

    def failure(self, kind: Failure, message: str) -> AtlasError:
        return kind(message, hint=self.hint, code=self.code, retryable=self.retryable)


TABLE_EXISTS = Meaning("table_exists", "another load has just made it; run again", True)
