"""What is written to: a destination, and the sessions in which it is changed and looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from atlas_etl.errors import RefusedRowError
from atlas_etl.model import (
    Checkpoint,
    CommittedCheckpoint,
    ConnectionStatus,
    LoadPlan,
    LoadResult,
    QuarantineChange,
    ReconcilePlan,
    ReconcileResult,
    Stream,
    TableName,
    TableState,
    WireFormat,
)

if TYPE_CHECKING:
    import pyarrow as pa


NO_CHANGE = QuarantineChange()


class LoadSession(Protocol):
    """One load being written. Leaving the block without `commit` undoes all of it."""

    def write(self, batch: pa.RecordBatch) -> Mapping[int, RefusedRowError]:
        """Take one batch of the plan's schema; gives back its rows, by their place, that the table refuses.

        Where the plan has a wire format, batches in it (values.wire_batch) come, too.

        Only a careful plan tells them from the others. Else it raises RefusedRowError, and so may `commit`.
        """

    def delete(self, keys: pa.RecordBatch) -> None:
        """Take keys (the primary key's columns) whose rows go, unless they are written too.

        The plan merges, and says that it deletes.
        """

    def commit(self, checkpoint: Checkpoint | None, quarantine: QuarantineChange = NO_CHANGE) -> LoadResult:
        """Make rows, checkpoint, quarantine and the ledger's row true, together, or raise and change nothing.

        None keeps the checkpoint that is there; a plan that replaces the table forgets it. The plan's
        protection becomes that of the table's state, unless the checkpoint has one.
        """


class Answer(Struct, frozen=True):
    """The rows of a query, in batches of bounded size."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


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

        One with a NULL, or that the table's columns do not take, raises DataError (`null_key`, and what a
        load would raise); a careful plan leaves it out.
        """

    def commit(self) -> ReconcileResult:
        """Delete or mark, with a line in the ledger, every row whose key did not come; or change nothing.

        Keys are equal where a merge finds them equal. Of a table with DELETED_AT, rows that were marked
        before keep their instant, and those whose key came are no longer marked. Raises DataError
        (`too_many_deletes`) where more would go than the plan allows, and (`null_key`) where a key was left
        out and the table has rows with a NULL in theirs; DestinationError (`table_not_ours`) where other
        streams have rows in the table, and, as a load does, what says that it was overtaken.
        """


class Destination(Protocol):
    """A connection that is written to. Every method raises DestinationError where it fails."""

    def test(self) -> ConnectionStatus:
        """Reach the system, log in, and prove that tables can be made."""

    def table_name(self, connector: str, stream: Stream) -> TableName:
        """Where this stream lands here; a name that cannot be held is shortened with a hash."""

    def place(self) -> str | None:
        """What the tables are in, to be compared with an Extract's."""

    def storable(self, schema: pa.Schema, there: pa.Schema | None = None) -> pa.Schema:
        """The same columns in the types that this destination would give back after storing them.

        A type that cannot be held exactly becomes its text form, never a lossy one. `there` are the columns
        of the table that they go to: one whose name is theirs but for its case is spelt as the table has it,
        where a table cannot have both.
        """

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        """What is there of this stream: the truth about what was committed."""

    def has_load(self, connector: str, stream: str, table: TableName, load_id: str) -> bool:
        """Whether a load of the stream with this id (Stream.load_id) was committed into the table.

        No more where the table was replaced or dropped since. Files remember their latest 100 loads.
        """

    def changes(self, plan: LoadPlan) -> Sequence[str]:
        """The statements by which `begin` would change the plan's table; none where there are no such."""

    def caveats(self) -> Sequence[str]:
        """Why what is loaded may not be what was read, whatever the source promises; mostly none."""

    def takes(self, offered: WireFormat, plan: LoadPlan) -> bool:
        """Whether the plan's table, or the one that it makes, takes rows of this form as they are."""

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
        """Overwrite one stream's checkpoint, or forget it (None); the rows' protection stays known."""

    def query(self, sql: str) -> pa.Table:
        """The rows of one statement that reads, in memory; columns with a value without exact form as text.

        Raises UsageError where the statement is wrong.
        """

    def answer(self, sql: str, as_text: Collection[str] = ()) -> AbstractContextManager[Answer]:
        """The same, read while the block is open; these columns as text.

        Raises HazardError where another one has a value without exact form.
        """

    def close(self) -> None:
        """Give back every connection; may be called twice."""
