"""Several generators of events at once, each driven by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from queue import SimpleQueue

from msgspec import Struct

from atlas_etl.pipeline.events import Event

_NAME = "atlas-lane"

Events = Generator[Event, None, None]


def interleaved(works: Sequence[Events]) -> Events:
    """The events of all, as they come; of a single one, without a thread.

    As with a single generator, none goes on past an event before the next one is asked for, and closing the
    iterator closes each in its thread: where it waits, or at its next event. What one raises ends all.
    """
    if len(works) <= 1:
        for work in works:
            yield from work
        return
    told: SimpleQueue[_Told] = SimpleQueue()
    stopping = threading.Event()
    heard = [threading.Event() for _ in works]
    # Who interrupts twice waits for nobody: the process may end while they are at work.
    threads = [
        threading.Thread(target=_drive, args=(work, told, its, stopping), name=_NAME, daemon=True)
        for work, its in zip(works, heard, strict=True)
    ]
    try:
        for thread in threads:
            thread.start()
        going = len(threads)
        while going:
            latest = told.get()
            if latest.event is not None:
                yield latest.event
                latest.heard.set()
            else:
                going -= 1
                if latest.failure is not None:
                    raise latest.failure
    finally:
        # A signal may come between taking what was told and knowing it: so what is left is not counted.
        stopping.set()
        for its in heard:
            its.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()


class _Told(Struct, frozen=True):
    """An event, which `heard` lets its thread go on from; without one, the thread's end."""

    heard: threading.Event
    event: Event | None = None
    failure: BaseException | None = None


def _drive(work: Events, told: SimpleQueue[_Told], heard: threading.Event, stopping: threading.Event) -> None:
    end = _Told(heard)
    try:
        with closing(work):
            for event in work:
                told.put(_Told(heard, event))
                heard.wait()
                heard.clear()  # before the look: whoever stops sets `stopping` first
                if stopping.is_set():
                    break
    except BaseException as failure:
        end = _Told(heard, failure=failure)
    told.put(end)
