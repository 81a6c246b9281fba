"""What is read from: a connector, and the extracts of its streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from atlas_etl.model import (
    Checkpoint,
    ConnectionStatus,
    CursorValue,
    NextTail,
    ReadOutline,
    ReadRequest,
    RefusedRow,
    Stream,
    StreamInfo,
    TableName,
    WireFormat,
)

if TYPE_CHECKING:
    import pyarrow as pa


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

    @property
    def next_tail(self) -> NextTail | None:
        """Where the tail of these rows will begin, as far as that is known; None where it is not."""

    @property
    def wire_format(self) -> WireFormat | None:
        """The form in which the rows can be had undecoded; None where they cannot."""

    def wire_batches(self) -> Iterator[pa.RecordBatch]:
        """As `batches`, in `wire_format` (values.wire_batch); those with a hazard come decoded."""

    def outline(self) -> ReadOutline:
        """What these batches will be read by, and which promise holds. Call before `batches`."""

    def interrupt(self) -> None:
        """Have a read that waits for its source end soon, in failure. Called while another thread reads.

        Afterwards the extract is only good for leaving the connector's block.
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


@runtime_checkable
class ProtectedSource(Protocol):
    """What a Connector may also be: one that hides values of its streams' rows by rules and a key."""

    def protection(self, stream: Stream) -> str:
        """What tells the stream's rules and their key from others; empty without rules.

        Makes the key that rules need. Raises ConfigError and StateError.
        """

    def refuse_changed(self, stream: Stream, protection: str) -> None:
        """Raise ConfigError (`rules_changed`) where rows of this protection would not meet those of now."""
