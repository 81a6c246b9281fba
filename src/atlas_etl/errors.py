"""The error tree: every failure a user can meet, its exit code, and whether a retry may help.

AtlasError                      1   a failure of ours, or one nobody has named yet
├── UsageError                  2   the command line asked for something that cannot be
├── ConfigError                 2   a definition, atlas.yaml or an environment variable is wrong
│   ├── UnknownProtocolError        no such protocol, with the nearest names
│   └── MissingDriverError          the protocol's driver is not installed, with the command that installs it
├── SourceError                 3   the source could not be reached or read
│   └── WiderColumnsError           later rows need wider columns than the first ones showed
├── DestinationError            4   the destination could not be reached or written
│   └── OvertakenError              another load was committed since this one was planned
├── StateError                  4   the state store could not be reached, read or written
├── LockedError                 6   another run of this connector is in progress
│   └── SlotSettledError            this slot of the schedule was run already, or given up
├── LostLeaseError              6   another run took the lease while this one could not renew it
├── DataError                   7   the data broke a rule
│   ├── NullCursorError             rows without a cursor value
│   ├── HazardError                 a value that has no exact form where it goes
│   ├── RefusedRowError             a row that its table, or the stream's contract, does not take
│   │   └── NullKeyError                a row of a merge without a value in the key
│   └── SchemaChangeError           a column's type changed in a way that cannot be widened
├── VerifyError                 8   source and destination differ
└── InterruptedRunError       130   SIGINT or SIGTERM
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum
from typing import ClassVar

from atlas_etl.redactor import redacted


class ExitCode(IntEnum):
    """What a process ends with; scripts rely on these numbers."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    SOURCE = 3
    DESTINATION = 4
    PARTIAL = 5
    LOCKED = 6
    DATA = 7
    DIFFERENT = 8
    INTERRUPTED = 130


class AtlasError(Exception):
    """A failure with what a person needs: what, where, why, and what to do next.

    `message` says what failed and why; `hint` says what to do next. `code` is a stable snake_case
    name for machines and documentation. Neither may contain a secret or a row's values other than
    the key that identifies the row. A `retryable` one is tried as often as the user says, or `attempts`
    times in all where more would not help; and `patience` times as often where it may take long to pass.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED
    default_code: ClassVar[str] = "unexpected"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        connector: str | None = None,
        stream: str | None = None,
        column: str | None = None,
        retryable: bool = False,
        attempts: int | None = None,
        patience: int = 1,
    ) -> None:
        super().__init__(_text(message))
        self.message = _text(message)
        self.hint = _text(hint) if hint is not None else None
        self.code = code or self.default_code
        self.connector = connector
        self.stream = stream
        self.column = column
        self.retryable = retryable
        self.attempts = attempts
        self.patience = patience
        self.tries = 1  # how often it was waited for already, of those that a stream's `retry` allows

    def located(self, *, connector: str | None = None, stream: str | None = None) -> AtlasError:
        """The same error, told where it happened; what it already knows stays."""
        self.connector = self.connector or connector
        self.stream = self.stream or stream
        return self


def _text(message: str) -> str:
    """The message in characters that every stream and store takes, without secrets that drivers put in."""
    return redacted(message.encode("utf-8", "backslashreplace").decode("utf-8"))


class UsageError(AtlasError):
    """The command line asked for something that cannot be; nothing was touched."""

    exit_code = ExitCode.USAGE
    default_code = "usage"


class ConfigError(AtlasError):
    """A definition, atlas.yaml or an environment variable is wrong; nothing was touched."""

    exit_code = ExitCode.USAGE
    default_code = "config"


class UnknownProtocolError(ConfigError):
    """No connector is registered for this protocol."""

    default_code = "unknown_protocol"


class MissingDriverError(ConfigError):
    """The protocol is known, but the package that speaks it is not installed."""

    default_code = "missing_driver"


class SourceError(AtlasError):
    """The source could not be reached or read."""

    exit_code = ExitCode.SOURCE
    default_code = "source"


class WiderColumnsError(SourceError):
    """Rows do not fit the columns that were told before them; the stream opened again has wider ones."""

    default_code = "wider_columns"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} has later records that do not fit the columns of its first ones",
            hint="run again",
            retryable=True,
        )


class DestinationError(AtlasError):
    """The destination could not be reached or written."""

    exit_code = ExitCode.DESTINATION
    default_code = "destination"


class OvertakenError(DestinationError):
    """Another load into the table was committed since this one was planned; nothing of this one was."""

    default_code = "overtaken"

    def __init__(self, stream: str) -> None:
        super().__init__(
            "another load into the table was committed in the meantime",
            hint="run again; the destination's checkpoint tells where to go on",
            stream=stream,
            retryable=True,
        )


class StateError(AtlasError):
    """The state store could not be reached, read or written."""

    exit_code = ExitCode.DESTINATION
    default_code = "state"


class LockedError(AtlasError):
    """Another run of this connector holds its lease."""

    exit_code = ExitCode.LOCKED
    default_code = "locked"


class SlotSettledError(LockedError):
    """This slot of the connector's schedule was run already, or given up."""

    default_code = "slot_settled"


class LostLeaseError(AtlasError):
    """Another run took this one's lease while it could not renew it."""

    exit_code = ExitCode.LOCKED
    default_code = "lease_lost"


class DataError(AtlasError):
    """The data broke a rule; nothing of this load was committed."""

    exit_code = ExitCode.DATA
    default_code = "data"


class NullCursorError(DataError):
    """Rows without a cursor value would never be read again."""

    default_code = "null_cursor"


class HazardError(DataError):
    """A value has no exact form where it goes, and the stream's policy for that is `error`."""

    default_code = "value_hazard"


class RefusedRowError(DataError):
    """A row that its table, or the stream's contract, does not take; the rows around it may still fit."""

    default_code = "refused_row"


class NullKeyError(RefusedRowError):
    """A row of a merge has no value in the primary key."""

    default_code = "null_key"

    def __init__(self, key: Iterable[str], stream: str) -> None:
        super().__init__(
            f"rows without a value in the primary key ({', '.join(key)}) cannot be merged",
            hint="choose a primary key without NULL, or the disposition append or replace",
            stream=stream,
        )


class SchemaChangeError(DataError):
    """A column's type changed in a way that cannot be widened."""

    default_code = "schema_change"


class VerifyError(AtlasError):
    """Source and destination differ."""

    exit_code = ExitCode.DIFFERENT
    default_code = "different"


class InterruptedRunError(AtlasError):
    """The run was asked to stop; whatever was committed stays, the rest is as before."""

    exit_code = ExitCode.INTERRUPTED
    default_code = "interrupted"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the closest known names, whatever their case, or None when nothing is close."""
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(each.casefold(), each)
    matches = [folded[match] for match in get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    if not matches:
        return None
    return f"did you mean {' or '.join(repr(match) for match in matches)}?"
