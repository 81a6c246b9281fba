"""Several readers at once, each in a thread of its own; their batches wait in memory, bounded by bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Protocol, TypeVar

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.connectors.sql._fetching import Batches
from atlas_etl.model import BatchLimits, HazardCells

Part = TypeVar("Part")
Item = tuple[pa.RecordBatch, Sequence[HazardCells]]

_LEAST_BATCH = 1024 * 1024


class Reader(Protocol):
    """Reads one or more parts of the rows, one after the other."""

    def parts(self) -> Iterator[Batches]:
        """The rows of each part; called once, in the reader's thread."""

    def interrupt(self) -> None:
        """Make what a part waits for fail at once. Called from another thread, at any moment."""


class Waiting(Protocol):
    """What was read and not taken yet, and in which order it is taken. Readers have numbers, from 0."""

    def add(self, reader: int, item: Item) -> None:
        """A batch was read."""

    def end_part(self, reader: int) -> None:
        """A part was read whole."""

    def is_next(self, reader: int) -> bool:
        """Whether nothing can be taken before this reader reads more."""

    def take(self) -> Item | None:
        """The next batch; None where it was not read yet, or where there is none."""


class AsTheyCome:
    """Batches are taken in the order in which they were read."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()

    def add(self, reader: int, item: Item) -> None:  # noqa: ARG002
        self._items.append(item)

    def end_part(self, reader: int) -> None:
        """Parts have no order."""

    def is_next(self, reader: int) -> bool:  # noqa: ARG002
        return not self._items

    def take(self) -> Item | None:
        return self._items.popleft() if self._items else None


class InTurn:
    """Batches are taken part by part, in the order in which `dealt` gave the parts to the readers."""

    def __init__(self, readers: int) -> None:
        self._items: list[deque[Item | None]] = [deque() for _ in range(readers)]  # None: a part ends
        self._turn = 0

    def add(self, reader: int, item: Item) -> None:
        self._items[reader].append(item)

    def end_part(self, reader: int) -> None:
        self._items[reader].append(None)

    def is_next(self, reader: int) -> bool:
        return reader == self._turn and not self._items[reader]

    def take(self) -> Item | None:
        while (waiting := self._items[self._turn]) and waiting[0] is None:
            waiting.popleft()
            self._turn = (self._turn + 1) % len(self._items)
        return waiting.popleft() if waiting else None


def share(limits: BatchLimits, readers: int) -> BatchLimits:
    """The limits of each of so many readers, which together take as much memory as one."""
    return replace(limits, bytes=max(limits.bytes // readers, _LEAST_BATCH))


def dealt(parts: Sequence[Part], readers: int) -> list[Sequence[Part]]:
    """The parts of each of so many readers."""
    return [parts[number::readers] for number in range(readers)]


class SideBySide:
    """Several readers' batches, of which about `room` bytes wait to be taken, in this order."""

    def __init__(self, room: int, waiting: Waiting) -> None:
        self._room = room
        self._waiting = waiting
        self._reading = 0
        self._size = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()

    def batches(self, readers: Sequence[Reader]) -> Batches:
        """Call once. The first that fails ends all, with its error; no thread outlives the iterator."""
        self._reading = len(readers)
        threads = [threading.Thread(target=self._fill, args=each, daemon=True) for each in enumerate(readers)]
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            while (item := self._take()) is not None:
                yield item
        except BaseException:
            self._close()
            for reader in readers:
                reader.interrupt()
            raise
        finally:
            for thread in started:
                thread.join()

    def fail(self, failure: BaseException) -> None:
        """Have whoever takes batches, in another thread perhaps, raise this."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def _fill(self, number: int, reader: Reader) -> None:
        try:
            for part in reader.parts():
                if not self._put_all(number, part):
                    break
        except BaseException as failure:
            self.fail(failure)
        with self._changed:
            self._reading -= 1
            self._changed.notify_all()

    def _put_all(self, reader: int, part: Batches) -> bool:
        """False where nothing more is taken."""
        with closing(part) as items:
            for item in items:
                if not self._put(reader, item):
                    return False
        with self._changed:
            self._waiting.end_part(reader)
            self._changed.notify_all()
        return True

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, reader: int, item: Item) -> bool:
        """Wait for room; False where nothing more is taken."""
        size = item[0].nbytes
        with self._changed:
            # What is waited for needs no room: it may be larger than that, or others may have filled it.
            self._changed.wait_for(
                lambda: self._closed or self._waiting.is_next(reader) or self._size + size <= self._room
            )
            if self._closed:
                return False
            self._waiting.add(reader, item)
            self._size += size
            self._changed.notify_all()
        return True

    def _take(self) -> Item | None:
        """Wait for a batch; None at the end. Raises what a reader raised, whatever was read before it."""
        with self._changed:
            while (item := self._next()) is None and self._reading:
                self._changed.notify_all()  # whose turn it is now may wait for room
                self._changed.wait()
            if item is not None:
                self._size -= item[0].nbytes
            self._changed.notify_all()
            return item

    def _next(self) -> Item | None:
        if self._failure is not None:
            raise self._failure
        return self._waiting.take()
