"""Tables and the live progress line: the only user of rich, which loads when something is drawn."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, TaskID
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

_LONG_WORD = 16  # what is longer may be broken
_MIDDLE, _WIDE = 78, 116  # columns from which on a terminal has room for more of a live line
# The terminal's own colours, chosen with its ground; rich's would be lost on light or on dark.
_STYLES = {
    "bar.back": "bright_black",
    "bar.complete": "green",
    "bar.finished": "green",
    "bar.pulse": "green",
}
_PIPE_WIDTH = 10_000  # a pipe has no width, so nothing is cut or folded there
# Control codes, and what turns the direction of a line or ends it (https://www.unicode.org/reports/tr36/).
_STEERING = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))},
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
_STEERING_LINES = {code: text for code, text in _STEERING.items() if code != ord("\n")}
_STEERING_JSON = {code: f"\\u{code:04x}" for code in _STEERING if code >= 127}  # json escapes the others


def safe(value: object) -> str:
    """The value as one line without control codes, so that data cannot steer a terminal."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    return "" if value is None else str(value).translate(_STEERING)


def plain(text: str) -> str:
    """The text in its own lines, otherwise as `safe` has it."""
    return text.translate(_STEERING_LINES)


def plain_json(text: str) -> str:
    """The same JSON, in characters that steer no terminal either."""
    return text.translate(_STEERING_JSON)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; what is None stays empty.

    On a terminal that is too narrow for its words, each row is a block with a line for each column.
    """
    console, found = _console(), [list(row) for row in rows]
    if console.is_terminal and found and _least_width(columns, found) > console.width:
        console.print(_blocks(columns, found))
    else:
        console.print(grid(columns, found))


def grid(columns: Sequence[str], rows: Iterable[Sequence[object]], numeric: Collection[str] = ()) -> Table:
    """The same as a part of a Screen; texts of `numeric` columns stand on the right as numbers do."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        side: Literal["left", "right"] = "right" if column in numeric else "left"
        drawn.add_column(Text(safe(column), justify=side), justify=side, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    return drawn


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """How wide a table is whose words stay whole, but for long ones."""
    from rich.cells import cell_len

    def of(text: str) -> int:
        return max((min(cell_len(word), _LONG_WORD) for word in text.split()), default=0)

    widths = [max(of(safe(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    return sum(widths) + 2 * (len(columns) - 1)


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, show_header=False)
    drawn.add_column(no_wrap=True, style="bold")
    drawn.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            drawn.add_row()
        for column, value in zip(columns, row, strict=True):
            if value is not None:
                drawn.add_row(Text(safe(column)), value if isinstance(value, Text) else Text(safe(value)))
    return drawn


def hanging(text: str, indent: int) -> str:
    """One line of text; on a terminal several, broken between words, with all but the first indented."""
    console = _console()
    if not console.is_terminal:
        return text
    return textwrap.fill(
        text,
        console.width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def bar(share: float) -> ProgressBar:
    """How much of something is done, from 0 to 1, as a cell."""
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=1.0, completed=share, width=16)


def data(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows of data on stdout; NULL is dim on a terminal and empty elsewhere."""
    from rich.text import Text

    null = Text("NULL", style="dim") if _console().is_terminal else None
    table(columns, [[null if value is None else value for value in row] for row in rows])


def markdown(text: str) -> None:
    """A page on stdout: laid out on a terminal, as it is written elsewhere."""
    console = _console()
    if not console.is_terminal:
        sys.stdout.write(text)
        return
    from rich.markdown import Markdown

    console.print(Markdown(text))


def _cell(value: object) -> Text | ProgressBar:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    if isinstance(value, Text | ProgressBar):
        return value
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Text(safe(value), justify="right" if numeric else None)


def _console() -> Console:
    from rich.console import Console

    console = _styled(sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, highlight=False, width=_PIPE_WIDTH)


def _styled(file: TextIO) -> Console:
    from rich.console import Console
    from rich.theme import Theme

    return Console(file=file, highlight=False, theme=Theme(_STYLES))


class ProgressLine:
    """One live line per stream on stderr, where that is a terminal; a narrow one shows what matters most."""

    def __init__(self) -> None:
        from rich.progress import Progress

        console = _styled(sys.stderr)
        self._progress = Progress(*_progress_columns(console.width), console=console, transient=True)
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> ProgressLine:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, connector: str, stream: str, estimated_rows: int | None) -> None:
        name = f"{safe(connector)} {safe(stream)}"
        self._tasks[connector, stream] = self._progress.add_task(
            name, total=estimated_rows, rows="", speed="", size="", left="", note=""
        )

    def moved(self, connector: str, stream: str, rows: int, size: int, note: str) -> None:
        task = self._tasks[connector, stream]
        found = self._progress.tasks[self._progress.task_ids.index(task)]
        elapsed, total = found.elapsed or 1e-9, found.total
        left = (total / rows - 1) * elapsed if total is not None and 0 < rows <= total else None
        self._progress.update(
            task,
            completed=rows,
            rows=f"{rows:,} rows" if left is None else f"{rows:,} / ~{total:,.0f}",
            speed=f"{rows / elapsed:,.0f} rows/s",
            size=f"{size / elapsed / 1e6:,.1f} MB/s",
            left="" if left is None else f"{_clock(left)} left",
            note=note,
        )

    def compared(self, connector: str, stream: str, keys: int) -> None:
        task = self._tasks.get((connector, stream))
        if task is not None:
            told = f"{keys:,} keys compared"
            self._progress.update(task, completed=keys, rows=told, speed="", size="", left="", note="")

    def ended(self, connector: str, stream: str) -> None:
        task = self._tasks.pop((connector, stream), None)
        if task is not None:
            self._progress.remove_task(task)


def _clock(seconds: float) -> str:
    """A length of time as 1:05, or 2:00:05."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _progress_columns(width: int) -> list[ProgressColumn]:
    """What a live line shows on a terminal of so many columns, with rows of eight digits uncut."""
    from rich.progress import BarColumn, TextColumn
    from rich.table import Column

    name = Column(no_wrap=True, overflow="ellipsis", max_width=width // (3 if width < _MIDDLE else 5))
    columns: list[ProgressColumn] = [TextColumn("{task.description}", table_column=name)]
    columns += [BarColumn(bar_width=width // 10)] if width >= _MIDDLE else []
    columns += [TextColumn("{task.fields[rows]}", justify="right")]
    columns += [TextColumn("{task.fields[speed]}", justify="right")] if width >= _MIDDLE else []
    columns += [TextColumn("{task.fields[size]}", justify="right")] if width >= _WIDE else []
    columns += [TextColumn("{task.fields[left]}", justify="right")]
    return [*columns, TextColumn("{task.fields[note]}")] if width >= _WIDE else columns


class Screen:
    """Text and grids on a terminal that are drawn again in their place; nothing before the first is shown."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=_console(), auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, *parts: str | Table) -> None:
        from rich.console import Group
        from rich.text import Text

        drawn = (Text(plain(part)) if isinstance(part, str) else part for part in parts)
        self._live.start()
        self._live.update(Group(*drawn), refresh=True)


def is_terminal_out() -> bool:
    """Whether people watch stdout."""
    return sys.stdout.isatty() and _console().is_terminal


def draws(signs: str) -> bool:
    """Whether stdout's encoding has these, and bars."""
    try:
        f"{signs}▁█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def is_terminal() -> bool:
    """Whether people watch stderr."""
    if not sys.stderr.isatty():
        return False
    from rich.console import Console

    return Console(stderr=True).is_terminal
