"""The few interfaces between the rooms: Connector, Extract, Destination, LoadSession and StateStore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from atlas_etl.errors import RefusedRowError
from atlas_etl.model import (
    Checkpoint,
    CheckpointAction,
    CheckpointChange,
    CommittedCheckpoint,
    ConnectionStatus,
    CursorValue,
    LoadPlan,
    LoadResult,
    QuarantineChange,
    ReadRequest,
    ReconcilePlan,
    ReconcileResult,
    RefusedRow,
    Run,
    RunStatus,
    Stream,
    StreamInfo,
    TableName,
    TableState,
)

if TYPE_CHECKING:
    import pyarrow as pa


NO_CHANGE = QuarantineChange()


class Extract(Protocol):
    """One snapshot of one stream, being read. Every query of it sees the same rows."""

    @property
    def schema(self) -> pa.Schema:
        """The columns that every batch has; fields know their source type (values.source_type)."""

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The stream's key: the definition's, else the catalog's, else empty."""

    @property
    def key_is_unique(self) -> bool:
        """Whether the source itself keeps two rows from sharing the key."""

    @property
    def tables(self) -> frozenset[TableName]:
        """The tables that are read, as far as they are known: those of a query are not."""

    def place(self) -> str | None:
        """What `tables` are in, whatever way led to it: where a Destination's is equal, it has the same ones.

        None where it is not known.
        """

    @property
    def estimated_rows(self) -> int | None:
        """Roughly how many rows will come; None where the source cannot say cheaply."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, once, bounded by the request's limits. Raises SourceError and DataError.

        Leaving the connector's block ends a read that was left in its middle.
        """

    def reached(self) -> Checkpoint | None:
        """How far the rows that were given so far reach, where a load may end here and go on from there.

        None where it may not: rows do not come in the cursor's order, or are still of the previous tail.
        """

    def checkpoint(self) -> Checkpoint | None:
        """How far these rows reach, from this snapshot. Call after `batches` is exhausted.

        None where the stream has no cursor or no rows were read: then what was committed stays.
        """

    def nulled(self) -> Mapping[str, int]:
        """Cells so far that became NULL by policy, as `"column: hazard" -> count`."""

    def refused(self) -> Sequence[RefusedRow]:
        """Rows since the last call that the stream's hazard policies keep out of the batches."""

    def again(
        self,
        *,
        since: CursorValue | None = None,
        until: CursorValue | None = None,
        after: CursorValue | None = None,
    ) -> Extract:
        """The same stream of the same snapshot, read again within these bounds (see ReadRequest).

        Read one to its end, or close it, before the next begins.
        """

    def warnings(self) -> Sequence[str]:
        """What a person should know of the rows that were read. Call after `checkpoint`."""

    def text_forms(self) -> Mapping[str, str]:
        """By column, the form in which `checksums` writes its values; without those that have no exact one.

        Where two columns have the same form, equal texts are equal values, and no others are.
        """

    def checksums(
        self, columns: Sequence[str], *, until: CursorValue | None = None
    ) -> Mapping[int, tuple[int, int]] | None:
        """Checksums of the rows up to `until`, computed where they are: by bucket, how many and a sum.

        Equal ones of columns of the same forms, in the same order, mean equal rows, but for a chance of
        2**-64. None where the system cannot compute them.
        """


class Connector(Protocol):
    """A connection that is read from. Every method raises SourceError where the source fails."""

    def test(self) -> ConnectionStatus:
        """Reach the system, log in, and say what is there; raises where `read` could not work."""

    def discover(self) -> Sequence[StreamInfo]:
        """Every table, view or file that the connection can read."""

    def describe(self, stream: Stream) -> StreamInfo:
        """One stream's columns and key. Raises SourceError (`table_not_found`, `column_not_found`)."""

    def open(self, request: ReadRequest) -> AbstractContextManager[Extract]:
        """Open one snapshot of one stream. Leaving the block ends the snapshot, read to its end or not.

        Raises NullCursorError where the policy says so, DataError where the cursor cannot be compared.
        """

    def close(self) -> None:
        """Give back every connection; may be called twice."""


class LoadSession(Protocol):
    """One load being written. Leaving the block without `commit` undoes all of it."""

    def write(self, batch: pa.RecordBatch) -> Mapping[int, RefusedRowError]:
        """Take one batch of the plan's schema; gives back its rows, by their place, that the table refuses.

        Only a careful plan tells them from the others. Else it raises RefusedRowError, and so may `commit`.
        """

    def delete(self, keys: pa.RecordBatch) -> None:
        """Take keys (the primary key's columns) whose rows go, unless they are written too.

        The plan merges, and says that it deletes.
        """

    def commit(self, checkpoint: Checkpoint | None, quarantine: QuarantineChange = NO_CHANGE) -> LoadResult:
        """Make rows, checkpoint, quarantine and the ledger's row true, together, or raise and change nothing.

        None keeps the checkpoint that is there; a plan that replaces the table forgets it.
        """


class TableSnapshot(Protocol):
    """One snapshot of a destination's table, being read. Every read of it sees the same rows."""

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Every row, in no order: these columns, in the types that `inspect` says, bounded in bytes.

        Raises DestinationError. Read to the end, or close it, before the next read begins.
        """

    def text_forms(self, columns: Sequence[str]) -> Mapping[str, str]:
        """As an Extract's, of these columns."""

    def checksums(self, columns: Sequence[str]) -> Mapping[int, tuple[int, int]] | None:
        """As an Extract's, of all rows."""


class ReconcileSession(Protocol):
    """One table being compared with its source's keys. Leaving the block without `commit` changes nothing."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take keys that the source has, as the plan types them; some may come twice.

        Raises DataError (`null_key`).
        """

    def commit(self) -> ReconcileResult:
        """Delete or mark, with a line in the ledger, every row whose key did not come; or change nothing.

        Keys are equal where a merge finds them equal. Of a table with DELETED_AT, rows that were marked
        before keep their instant, and those whose key came are no longer marked. Raises DataError
        (`too_many_deletes`) where more would go than the plan allows, DestinationError (`table_not_ours`)
        where other streams have rows in the table, and, as a load does, what says that it was overtaken.
        """


class Destination(Protocol):
    """A connection that is written to. Every method raises DestinationError where it fails."""

    def test(self) -> ConnectionStatus:
        """Reach the system, log in, and prove that tables can be made."""

    def table_name(self, connector: str, stream: Stream) -> TableName:
        """Where this stream lands here; a name that cannot be held is shortened with a hash."""

    def place(self) -> str | None:
        """What the tables are in, to be compared with an Extract's."""

    def storable(self, schema: pa.Schema) -> pa.Schema:
        """The same columns in the types that this destination would give back after storing them.

        A type that cannot be held exactly becomes its text form, never a lossy one.
        """

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        """What is there of this stream: the truth about what was committed."""

    def snapshot(self, table: TableName) -> AbstractContextManager[TableSnapshot]:
        """Open one snapshot of a table that is there. Leaving the block ends it."""

    def begin(self, plan: LoadPlan) -> AbstractContextManager[LoadSession]:
        """Open one load: apply the plan's changes, delete the tail, take rows."""

    def reconcile(self, plan: ReconcilePlan) -> AbstractContextManager[ReconcileSession]:
        """Begin to compare a table, which is there, with the keys of its source.

        Raises DestinationError (`referenced`) where deleting its rows would change those of other tables.
        """

    def reconciled_at(self, connector: str, stream: str, table: TableName) -> datetime | None:
        """The `at` of the last comparison that was committed for this stream's table."""

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        """Every checkpoint committed here by this connector."""

    def set_checkpoint(
        self, connector: str, stream: str, table: TableName, checkpoint: Checkpoint | None
    ) -> None:
        """Overwrite one stream's checkpoint, or forget it (None)."""

    def query(self, sql: str) -> pa.Table:
        """Run one statement that reads and give back its rows. Raises UsageError where it is wrong."""

    def close(self) -> None:
        """Give back every connection; may be called twice."""


class Lease(Protocol):
    """The right to run one connector, kept alive by a heartbeat until the block is left."""

    @property
    def run(self) -> Run:
        """The run that this lease was taken for, as it began."""

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every lease of this connector before it."""

    def lost(self) -> bool:
        """Whether another process took the lease because the heartbeat was late."""


class StateStore(Protocol):
    """Runs, leases and a mirror of the checkpoints. Raises StateError where it fails."""

    def lease(
        self, connector: str, *, triggered_by: str, destination: str | None
    ) -> AbstractContextManager[Lease]:
        """Begin a run of this connector, alone. Raises LockedError while another one is alive.

        A run whose heartbeat stopped is marked `interrupted` and its lease freed within a minute.
        Leaving the block frees the lease; a run that was not finished by then is marked `interrupted`.
        """

    def hold(self, connector: str) -> AbstractContextManager[Lease]:
        """The same right for looking only: no run begins, and the history does not tell of it."""

    def finish(self, run: Run) -> None:
        """Record how a run ended. The checkpoints of its streams are mirrored, and recorded as changes.

        A checkpoint that reaches as far as the mirrored one is no change.
        """

    def record_skipped(self, connector: str, *, triggered_by: str, reason: str) -> Run:
        """Record a run that was refused, without a lease."""

    def history(
        self, connector: str | None = None, *, limit: int = 20, status: RunStatus | None = None
    ) -> Sequence[Run]:
        """Runs, the latest first, with their streams."""

    def count_runs(self, connector: str | None = None, *, status: RunStatus | None = None) -> int:
        """How many runs `history` would give without a limit."""

    def mirror_checkpoint(self, connector: str, committed: CommittedCheckpoint) -> None:
        """Keep a copy of what the destination committed; one that was not mirrored yet is a change."""

    def forget_checkpoint(self, connector: str, stream: str) -> None:
        """Remove the copy."""

    def change_checkpoint(
        self,
        connector: str,
        stream: str,
        action: CheckpointAction,
        checkpoint: Checkpoint | None,
        *,
        run_id: str,
        reason: str | None = None,
    ) -> None:
        """Mirror and record what this process's user did to a checkpoint (None: forgot it)."""

    def checkpoint_changes(
        self, connector: str, *, stream: str | None = None, limit: int = 20
    ) -> Sequence[CheckpointChange]:
        """Changes of one connector's checkpoints, the latest first."""

    def checkpoint_change(self, change_id: int) -> CheckpointChange | None:
        """One change, of whichever connector; None where there is none, or no more."""

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        """The mirrored checkpoints of one connector."""

    def register(self, connector: str, protocol: str, *, enabled: bool, schedule: str | None) -> None:
        """Make the connector known to the views `v_active_connectors` and `v_recent_runs`."""

    def unregister(self, connector: str) -> None:
        """The definition is gone; its history stays."""

    def prune(self, before: datetime) -> int:
        """Delete runs completed before this instant; gives back how many.

        The changes that they made go with them, but for the newest change of each stream.
        """

    def keep_newest(self, runs: int) -> int:
        """Delete all but the newest runs of each connector, like `prune`. Running ones stay."""

    def close(self) -> None:
        """Give back every connection; may be called twice."""
