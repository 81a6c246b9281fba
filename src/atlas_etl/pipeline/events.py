"""What a transfer and a run say while they go on: values that the CLI, the daemon and the tests iterate."""

from __future__ import annotations

from msgspec import Struct

from atlas_etl.model import Checkpoint, Deletion, Disposition, Run, RunError, Side, StreamRun


class StreamStarted(Struct, frozen=True):
    """The source and the table are known, and the first row is about to be read."""

    connector: str
    stream: str
    table: str
    disposition: Disposition
    resumed_from: Checkpoint | None
    estimated_rows: int | None


class BatchLoaded(Struct, frozen=True):
    """So much was read and written so far; nothing of it is committed yet."""

    connector: str
    stream: str
    rows: int
    bytes: int
    slower: Side | None = None  # the end that the other one waited for longer so far


class RowsRefused(Struct, frozen=True):
    """A load met rows that its table does not take, and was undone; it is done again and keeps them aside."""

    connector: str
    stream: str
    reason: str


class StreamRead(Struct, frozen=True):
    """Everything is read and written; the commit follows. Closing the iterator still undoes it."""

    connector: str
    stream: str


class WindowCommitted(Struct, frozen=True):
    """A part of a long load was committed; this run, or a later one, goes on from there."""

    connector: str
    outcome: StreamRun  # so far


class KeysRead(Struct, frozen=True):
    """So many keys of the source were read so far, to find the rows that it deleted; a StreamRead follows."""

    connector: str
    stream: str
    keys: int


class StreamReconciled(Struct, frozen=True):
    """The rows whose keys the source no longer has were deleted or marked; the others were kept."""

    connector: str
    stream: str
    how: Deletion
    deleted: int
    kept: int
    left_out: int = 0  # keys of the source that its table cannot have: their rows are not in it


class StreamRetrying(Struct, frozen=True):
    """The stream failed in a way that may pass; it goes on from its last commit after a wait."""

    connector: str
    stream: str
    error: RunError
    attempt: int


class StreamFinished(Struct, frozen=True):
    """The stream was committed, or failed and left everything as it was."""

    connector: str
    outcome: StreamRun


class RunStarted(Struct, frozen=True):
    run: Run


class RunFinished(Struct, frozen=True):
    run: Run


TransferEvent = StreamStarted | BatchLoaded | RowsRefused | StreamRead | WindowCommitted | StreamFinished
ReconcileEvent = KeysRead | StreamRead | StreamReconciled
Event = TransferEvent | ReconcileEvent | StreamRetrying | RunStarted | RunFinished
