"""Several generators of events at once, each driven by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from queue import SimpleQueue

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
    latest, going = _Told(), 0
    started: list[threading.Thread] = []
    try:
        for work in works:
            # Who interrupts twice waits for nobody: the process may end while they are at work.
            thread = threading.Thread(target=_drive, args=(work, told, stopping), name=_NAME, daemon=True)
            thread.start()
            started.append(thread)
            going += 1
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
        stopping.set()
        latest.heard.set()
        while going:
            latest = told.get()
            latest.heard.set()
            going -= latest.event is None
        for thread in started:
            thread.join()


@dataclass(frozen=True, slots=True)
class _Told:
    """An event, which `heard` lets its thread go on from; without one, the thread's end."""

    event: Event | None = None
    failure: BaseException | None = None
    heard: threading.Event = field(default_factory=threading.Event)


def _drive(work: Events, told: SimpleQueue[_Told], stopping: threading.Event) -> None:
    end = _Told()
    try:
        with closing(work):
            for event in work:
                latest = _Told(event)
                told.put(latest)
                latest.heard.wait()
                if stopping.is_set():
                    break
    except BaseException as failure:
        end = _Told(failure=failure)
    told.put(end)
