"""How far one connector's streams are committed: shown, moved and forgotten, each change recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.contracts import Destination, StateStore
from atlas_etl.errors import UsageError
from atlas_etl.model import (
    Checkpoint,
    CheckpointAction,
    CheckpointChange,
    CommittedCheckpoint,
    CursorKind,
    CursorValue,
    Disposition,
    ReadRequest,
    Run,
    Stream,
    TableState,
)
from atlas_etl.pipeline.plan import disposition_of
from atlas_etl.pipeline.run import finished

MOST_TAIL_VALUES = 10_000  # a checkpoint is one row of a ledger, and its tail one DELETE


class _Lent(Struct, frozen=True):
    """What a change needs, for as long as no other run of the connector may begin."""

    destination: Destination
    store: StateStore
    run: Run


class MovedCheckpoint(CommittedCheckpoint, frozen=True):
    """A checkpoint that a person set, and what that leaves unread.

    Rows with cursors from `passes_over` up to the checkpoint's would have been read by the next sync, and are
    by no later one. None: there are none.
    """

    passes_over: CursorValue | None = None


class Checkpoints(Struct, frozen=True):
    """The checkpoints of one connector, at its destination, which holds the truth, and in the state's mirror.

    Every method raises DestinationError and StateError; those that change something raise LockedError while
    the connector runs.
    """

    connector: PreparedConnector
    destination: PreparedDestination
    state: Callable[[], AbstractContextManager[StateStore]]
    state_to_read: Callable[[], AbstractContextManager[StateStore]]

    def committed(self) -> Sequence[CommittedCheckpoint]:
        """What the destination has committed; a mirror that may be written is brought up to date."""
        with self.state_to_read() as store, closing(self.destination.open()) as destination:
            return self._mirrored(destination, store)

    def set(self, stream: str | None, value: str, *, reason: str | None = None) -> MovedCheckpoint:
        """Move one stream's checkpoint to a cursor value, from which the next sync reads, inclusively.

        Raises UsageError where the stream has no checkpoint yet or the value is none of its cursor's kind.
        """
        chosen = self.connector.chosen((stream,) if stream else ())
        if len(chosen) > 1:
            raise UsageError(
                f"connector {self.connector.name!r} has several streams",
                hint=f"name one with --stream: {', '.join(found.name for found in chosen)}",
                connector=self.connector.name,
            )
        return self._put(chosen[0], lambda state: self._moved(chosen[0], state, value), reason)

    def put_back(
        self, change_id: int, *, stream: str | None = None, reason: str | None = None
    ) -> MovedCheckpoint:
        """Make the checkpoint true again that this change made. Raises UsageError where it made none."""
        with self.state() as store:
            change = store.checkpoint_change(change_id)
        checkpoint = self._checkpoint_of(change, change_id, stream)
        (chosen,) = self.connector.chosen((change.stream,) if change else ())
        return self._put(chosen, lambda state: self._once_more(chosen, state, checkpoint), reason)

    def reset(self, streams: Sequence[str], *, reason: str | None = None) -> list[str]:
        """Forget how far these streams are committed, all without names; the next sync reads everything."""
        chosen = self.connector.chosen(tuple(streams))
        with self._lent(CheckpointAction.RESET) as lent:
            for stream in chosen:
                self._change(lent, stream, None, reason)
        return [stream.name for stream in chosen]

    def _put(
        self, stream: Stream, wanted: Callable[[TableState], Checkpoint], reason: str | None
    ) -> MovedCheckpoint:
        with self._lent(CheckpointAction.SET) as lent:
            table = lent.destination.table_name(self.connector.name, stream)
            state = lent.destination.inspect(self.connector.name, stream.name, table)
            checkpoint = _with_parents(self._with_whole_tail(stream, wanted(state)), state.checkpoint)
            self._change(lent, stream, checkpoint, reason)
        unread = _passed_over(state.checkpoint, checkpoint)
        return MovedCheckpoint(stream.name, checkpoint, datetime.now(UTC), "", passes_over=unread)

    def _change(self, lent: _Lent, stream: Stream, checkpoint: Checkpoint | None, reason: str | None) -> None:
        name = self.connector.name
        table = lent.destination.table_name(name, stream)
        lent.destination.set_checkpoint(name, stream.name, table, checkpoint)
        action = CheckpointAction.SET if checkpoint else CheckpointAction.RESET
        lent.store.change_checkpoint(
            name, stream.name, action, checkpoint, run_id=lent.run.run_id, reason=reason
        )

    @contextmanager
    def _lent(self, action: CheckpointAction) -> Iterator[_Lent]:
        """The lease, the destination and an up-to-date mirror."""
        name = self.connector.name
        with (
            self.state() as store,
            store.lease(name, triggered_by=f"state {action}", destination=self.destination.name) as lease,
            closing(self.destination.open()) as destination,
        ):
            self._mirrored(destination, store)
            yield _Lent(destination, store, lease.run)
            store.finish(finished(lease.run, ()))

    def _mirrored(self, destination: Destination, store: StateStore) -> Sequence[CommittedCheckpoint]:
        name = self.connector.name
        # Looked at before the destination: a run that ends meanwhile has mirrored what is newer.
        before = {mirrored.stream: mirrored.checkpoint for mirrored in store.checkpoints(name)}
        committed = destination.checkpoints(name)
        for stream in before.keys() - {found.stream for found in committed}:
            store.forget_checkpoint(name, stream)
        for found in committed:
            if before.get(found.stream) != found.checkpoint.without_parents():
                store.mirror_checkpoint(name, found)
        return committed

    def _moved(self, stream: Stream, state: TableState, text: str) -> Checkpoint:
        """The stream's checkpoint at another cursor value of the same kind."""
        committed = state.checkpoint
        if committed is None and stream.cursor is None:
            raise self._refusal(
                f"stream {stream.name!r} has no cursor, so every sync reads all of it",
                "`cursor: COLUMN` in the definition makes it incremental",
                stream.name,
            )
        if committed is None:
            raise self._refusal(
                f"stream {stream.name!r} has no checkpoint to move",
                f"`atlas connector sync {self.connector.name} --stream {stream.name}` makes one",
                stream.name,
            )
        try:
            value = values.parse_cursor(committed.high.kind, text)
        except pa.ArrowInvalid:
            raise self._refusal(
                f"{text!r} is no {committed.high.kind}, as the cursor {committed.cursor!r} is",
                f"the checkpoint is now at {committed.high.text}",
                stream.name,
            ) from None
        return Checkpoint(committed.cursor, value, value, protection=committed.protection)

    def _checkpoint_of(
        self, change: CheckpointChange | None, change_id: int, stream: str | None
    ) -> Checkpoint:
        listed = f"`atlas state history {self.connector.name}` lists the changes"
        if change is None:
            raise self._refusal(f"there is no change {change_id}, or none any more", listed)
        if change.connector != self.connector.name:
            raise self._refusal(f"change {change_id} is one of connector {change.connector!r}", listed)
        if stream is not None and change.stream != stream:
            raise self._refusal(f"change {change_id} is one of stream {change.stream!r}", listed, stream)
        if change.after is None:
            raise self._refusal(
                f"change {change_id} forgot the checkpoint, so there is none to put back",
                f"`atlas state reset {self.connector.name} --stream {change.stream}` forgets it again",
                change.stream,
            )
        return change.after

    def _once_more(self, stream: Stream, state: TableState, checkpoint: Checkpoint) -> Checkpoint:
        if not state.loaded_by_atlas:
            raise self._refusal(
                f"the destination has no table that stream {stream.name!r} was loaded into",
                f"`atlas connector sync {self.connector.name} --stream {stream.name}` reads everything",
                stream.name,
            )
        if checkpoint.cursor != stream.cursor:
            raise self._refusal(
                f"the cursor was {checkpoint.cursor!r} then, and is {stream.cursor!r} now",
                f"`atlas state reset {self.connector.name} --stream {stream.name}` makes the next sync read "
                "everything",
                stream.name,
            )
        return checkpoint

    def _with_whole_tail(self, stream: Stream, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with every spelling by which an append will find the rows that it reads again.

        Only the source knows the order of text: what stands at or past the tail's beginning there has to
        be deleted at the destination before it is read again, or rows would be doubled.
        """
        if checkpoint.tail_from.kind is not CursorKind.TEXT:
            return checkpoint
        found = set(checkpoint.tail_values)
        with closing(self.connector.open()) as source:
            key = source.describe(stream).primary_key
            if disposition_of(stream, key) is not Disposition.APPEND:
                return checkpoint
            columns = tuple(dict.fromkeys((checkpoint.cursor, *key)))
            only = replace(stream, columns=columns, exclude=())
            with source.open(ReadRequest(only, since=checkpoint.tail_from)) as extract:
                for batch in extract.batches():
                    found.update(batch.column(checkpoint.cursor).drop_null().unique().to_pylist())
                    if len(found) > MOST_TAIL_VALUES:
                        raise self._refusal(
                            f"more than {MOST_TAIL_VALUES} texts of the cursor {checkpoint.cursor!r} come "
                            "after that one, too many to read again in part",
                            f"`atlas state reset {self.connector.name} --stream {stream.name}` makes the "
                            "next sync read everything",
                            stream.name,
                        )
        return replace(checkpoint, tail_values=tuple(sorted(found)))

    def _refusal(self, message: str, hint: str, stream: str | None = None) -> UsageError:
        return UsageError(message, hint=hint, connector=self.connector.name, stream=stream)


def _with_parents(checkpoint: Checkpoint, before: Checkpoint | None) -> Checkpoint:
    """The checkpoint with what is committed of each parent: rows that it goes back over are read again.

    One that moves on means that what is between is not wanted, of any parent.
    """
    if before is None or not _is_alike(before, checkpoint) or _passed_over(before, checkpoint) is not None:
        return checkpoint
    return replace(checkpoint, parents=before.parents)


def _passed_over(before: Checkpoint | None, after: Checkpoint) -> CursorValue | None:
    """Where the rows begin that only the checkpoint before would have had read."""
    if before is None or not _is_alike(before, after):
        return None
    return before.tail_from if values.comes_before(before.tail_from, after.tail_from) else None


def _is_alike(one: Checkpoint, other: Checkpoint) -> bool:
    return (one.cursor, one.high.kind) == (other.cursor, other.high.kind)
