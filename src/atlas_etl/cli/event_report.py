"""Events as people follow them: a live line per stream on a terminal, one line per event elsewhere."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from atlas_etl.cli import render
from atlas_etl.cli.output import Output


class EventReport:
    """What every report of events does: it owns the live line while it is entered, and says the others."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._stack = ExitStack()
        self._line = render.ProgressLine() if render.is_terminal() and not output.quiet else None

    def __enter__(self) -> Self:
        if self._line is not None:
            self._stack.enter_context(self._line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _started(self, connector: str, stream: str, estimated_rows: int | None) -> None:
        if self._line is not None:
            self._line.started(connector, stream, estimated_rows)

    def _moved(self, connector: str, stream: str, rows: int, size: int, note: str = "") -> None:
        if self._line is not None:
            self._line.moved(connector, stream, rows, size, note)

    def _ended(self, connector: str, stream: str) -> None:
        if self._line is not None:
            self._line.ended(connector, stream)

    def _say(self, connector: str, stream: str | None, text: str, **fields: object) -> None:
        where = f"{connector} {stream}" if stream else connector
        self._output.event(render.safe(f"{where}: {text}"), connector=connector, stream=stream, **fields)
