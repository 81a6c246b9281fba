"""How far one run is, from its events: written by the run's thread, read by whoever publishes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from atlas_etl.model import RunProgress, StreamProgress, StreamState
from atlas_etl.pipeline.events import (
    BatchLoaded,
    Event,
    KeysRead,
    RowsRefused,
    StreamFinished,
    StreamRead,
    StreamRetrying,
    StreamStarted,
    WindowCommitted,
)

_MOST_BEGUN = 40
_MOST_NEXT = 10


class Progress:
    """One run's. What `now` gives is bounded, however many streams and connectors there are."""

    def __init__(
        self,
        streams: Sequence[str],
        then: Callable[[], Sequence[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = streams
        self._then = then
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: dict[str, StreamProgress] = {}
        self._since: dict[str, float] = {}

    def heard(self, event: Event) -> None:
        """What the event says of its stream; of a run's own events nothing."""
        with self._lock:
            match event:
                case StreamStarted():
                    earlier = self._of(event.stream)
                    self._since[event.stream] = self._clock()
                    self._begun[event.stream] = StreamProgress(
                        event.stream,
                        StreamState.LOADING,
                        event.table,
                        estimated_rows=event.estimated_rows,
                        rows_committed=earlier.rows_committed,
                        attempt=earlier.attempt,
                    )
                case BatchLoaded():
                    self._begun[event.stream] = replace(
                        self._of(event.stream),
                        state=StreamState.LOADING,
                        rows=event.rows,
                        bytes=event.bytes,
                        slower=event.slower,
                    )
                case StreamRead():
                    self._begun[event.stream] = replace(self._of(event.stream), state=StreamState.COMMITTING)
                case WindowCommitted():
                    name = event.outcome.name
                    self._begun[name] = replace(
                        self._of(name), state=StreamState.LOADING, rows_committed=event.outcome.rows_loaded
                    )
                case KeysRead():
                    self._begun[event.stream] = replace(
                        self._of(event.stream), state=StreamState.COMPARING, keys=event.keys
                    )
                case RowsRefused():
                    self._begun[event.stream] = replace(self._of(event.stream), state=StreamState.RETRYING)
                case StreamRetrying():
                    self._begun[event.stream] = replace(
                        self._of(event.stream), state=StreamState.RETRYING, attempt=event.attempt + 1
                    )
                case StreamFinished():
                    self._finished(event)

    def _of(self, stream: str) -> StreamProgress:
        return self._begun.get(stream) or StreamProgress(stream, StreamState.LOADING)

    def _finished(self, event: StreamFinished) -> None:
        outcome, name = event.outcome, event.outcome.name
        failed = outcome.error is not None
        self._begun[name] = replace(
            self._of(name),
            state=StreamState.FAILED if failed else StreamState.COMPLETED,
            table=outcome.table,
            rows=outcome.rows_read,
            bytes=outcome.bytes_processed,
            rows_committed=outcome.rows_loaded,
            slower=outcome.slower,
            seconds=self._seconds(name),
        )

    def _seconds(self, stream: str) -> float:
        since = self._since.get(stream)
        return 0.0 if since is None else self._clock() - since

    def now(self) -> RunProgress:
        """As of now; from any thread."""
        with self._lock:
            begun = [
                each if each.state.is_over else replace(each, seconds=self._seconds(each.name))
                for each in self._begun.values()
            ]
        over = [each for each in begun if each.state.is_over]
        going = [each for each in begun if not each.state.is_over]
        newest = {each.name for each in (*over, *going)[-_MOST_BEGUN:]}
        begun_names = {each.name for each in begun}
        waiting = [name for name in self._names if name not in begun_names]
        return RunProgress(
            len(self._names),
            len(over),
            tuple(each for each in begun if each.name in newest),
            tuple(waiting[:_MOST_NEXT]),
            tuple(self._then()[:_MOST_NEXT]),
        )
