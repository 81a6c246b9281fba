"""Several reads at once, each in a thread of its own; their batches wait in one queue, bounded by bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.connectors.sql._fetching import Batches
from atlas_etl.model import BatchLimits, HazardCells

Item = tuple[pa.RecordBatch, Sequence[HazardCells]]

_LEAST_BATCH = 1024 * 1024


class Reader(Protocol):
    """One of the reads."""

    def batches(self) -> Batches:
        """Its rows; called once, in the reader's thread."""

    def interrupt(self) -> None:
        """Make what `batches` waits for fail at once. Called from another thread, at any moment."""


def share(limits: BatchLimits, readers: int) -> BatchLimits:
    """The limits of each of so many readers, which together take as much memory as one."""
    return replace(limits, bytes=max(limits.bytes // readers, _LEAST_BATCH))


class SideBySide:
    """Several readers' batches, in the order in which they come; about `room` bytes wait to be taken."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._reading = 0
        self._items: deque[Item] = deque()
        self._size = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()

    def batches(self, readers: Sequence[Reader]) -> Batches:
        """Call once. The first that fails ends all, with its error; no thread outlives the iterator."""
        self._reading = len(readers)
        threads = [threading.Thread(target=self._fill, args=(reader,), daemon=True) for reader in readers]
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

    def _fill(self, reader: Reader) -> None:
        try:
            with closing(reader.batches()) as items:
                for item in items:
                    if not self._put(item):
                        break
        except BaseException as failure:
            self.fail(failure)
        with self._changed:
            self._reading -= 1
            self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, item: Item) -> bool:
        """Wait for room; False where nothing more is taken."""
        size = item[0].nbytes
        with self._changed:
            # A batch larger than the room has it alone.
            self._changed.wait_for(lambda: self._closed or not self._items or self._size + size <= self._room)
            if self._closed:
                return False
            self._items.append(item)
            self._size += size
            self._changed.notify_all()
        return True

    def _take(self) -> Item | None:
        """Wait for a batch; None at the end. Raises what a reader raised, whatever was read before it."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._items or not self._reading)
            if self._failure is not None:
                raise self._failure
            if not self._items:
                return None
            item = self._items.popleft()
            self._size -= item[0].nbytes
            self._changed.notify_all()
            return item
