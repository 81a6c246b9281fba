"""Reading ahead: an iterator runs in a thread of its own, as far ahead of its reader as a bound allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Thread
from time import monotonic
from typing import Generic, TypeVar

from atlas_etl.model import Side

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """What `items` gives, in order; after its failure, if it has one, comes that failure.

    No more than `most` of what `size` counts waits to be taken, or one item. `interrupt` is called, from the
    thread that closes, to end a wait of `items` that nobody needs any more.
    """

    def __init__(
        self,
        items: Generator[Item, None, None],
        *,
        size: Callable[[Item], int],
        most: int,
        interrupt: Callable[[], None],
    ) -> None:
        self._items = items
        self._size = size
        self._most = most
        self._interrupt = interrupt
        self._changed = Condition()
        self._waiting: deque[Item] = deque()
        self._held = 0  # the sum of the sizes of those that wait
        self._starved = self._blocked = 0.0  # seconds that the reader, and `items`, waited for the other
        self._failure: BaseException | None = None
        self._ended = self._closed = False
        self._thread = Thread(target=self._run, name="atlas-prefetch", daemon=True)
        self._thread.start()

    @property
    def slower(self) -> Side:
        """The side that the other one waited for longer so far."""
        return Side.SOURCE if self._starved > self._blocked else Side.DESTINATION

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._changed:
            began = monotonic()
            self._changed.wait_for(lambda: self._waiting or self._ended)
            self._starved += monotonic() - began
            if self._waiting:
                item = self._waiting.popleft()
                self._held -= self._size(item)
                self._changed.notify_all()
                return item
        self._thread.join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        raise StopIteration

    def close(self) -> None:
        """End the thread, wherever it is, and wait for that."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
            is_running = not self._ended
        if is_running:
            self._interrupt()
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
            self._items.close()
        except BaseException as failure:  # it is raised where the next item is taken
            self._failure = failure
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: Item) -> bool:
        size = self._size(item)
        with self._changed:
            began = monotonic()
            self._changed.wait_for(
                lambda: not self._waiting or self._held + size <= self._most or self._closed
            )
            self._blocked += monotonic() - began
            if self._closed:
                return False
            self._waiting.append(item)
            self._held += size
            self._changed.notify_all()
            return True
