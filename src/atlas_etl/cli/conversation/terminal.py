"""The one room that talks: it asks each step's question on the terminal, or does its work, and answers it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import typer

from atlas_etl.api.draft import DraftedConnectors
from atlas_etl.cli.conversation.picking import Picked, read_pick
from atlas_etl.cli.conversation.steps import (
    Confirm,
    Conversation,
    FindStreams,
    LoadModel,
    Pick,
    PreviewRows,
    SampleColumns,
    Say,
    ShowFile,
    ShownRows,
    ShowRows,
    Step,
    Text,
    TryConnection,
)
from atlas_etl.cli.render import plain, safe, table
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, InterruptedRunError
from atlas_etl.redactor import learn, redacted

T = TypeVar("T")

_MOST_SHOWN = 20
_SAMPLED_ROWS = 1000
_PREVIEWED_ROWS = 10
_WIDEST_CELL = 32


@contextmanager
def breaking_off() -> Iterator[None]:
    """Ctrl-C and Ctrl-D in this block end it. Raises InterruptedRunError then."""
    try:
        yield
    except (typer.Abort, KeyboardInterrupt, EOFError):
        _write("")
        raise InterruptedRunError("interrupted; nothing was written") from None


def talk(conversation: Conversation[T], drafts: DraftedConnectors) -> T:
    """Lead a conversation to its end."""
    terminal = _Terminal(drafts)
    try:
        step = next(conversation)
        while True:
            step = conversation.send(terminal.answer(step))
    except StopIteration as end:
        result: T = end.value
        return result


class _Terminal:
    def __init__(self, drafts: DraftedConnectors) -> None:
        self._drafts = drafts

    def answer(self, step: Step) -> object:
        match step:
            case Text():
                return _text(step)
            case Pick():
                return _pick(step)
            case Confirm():
                return typer.confirm(_told(step.question), default=step.default, err=True)
            case Say():
                _write(_folded(step.text))
            case ShowFile():
                _write(f"\n{step.path}:\n\n{step.text}")
            case ShowRows():
                _show(step.columns, step.rows)
            case _:
                return _or_failure(lambda: self._work(step))
        return None

    def _work(self, step: Step) -> object:
        match step:
            case LoadModel():
                return registry.load(step.protocol).connection
            case TryConnection():
                _write("trying the connection ...")
                return self._drafts.test(step.draft)
            case FindStreams():
                _write("looking for what can be read ...")
                return self._drafts.offer(step.draft)
            case SampleColumns():
                return self._drafts.samples(step.draft, step.table, step.columns, _SAMPLED_ROWS)
            case PreviewRows():
                return ShownRows(*self._drafts.preview(step.draft, _PREVIEWED_ROWS))
            case _:
                raise TypeError(f"no work is known for {type(step).__name__}")


def _or_failure(work: Callable[[], object]) -> object:
    try:
        return work()
    except AtlasError as failure:
        return failure


def _prompt(question: str, default: str, *, hidden: bool = False) -> str:
    """What is typed; the default where that is nothing, and as it is, however it has to be shown."""
    shown = f"{_told(question)} [{_told(default)}]" if default else _told(question)
    typed = typer.prompt(shown, default="", show_default=False, hide_input=hidden, err=True)
    if hidden:
        learn([str(typed)])
    return str(typed) or default


def _text(step: Text) -> str:
    while True:
        typed = _prompt(step.question, step.default, hidden=step.hidden)
        try:
            return step.check(typed)
        except ValueError as wrong:
            _write(_folded(f"  {wrong}"))


def _pick(step: Pick) -> tuple[str, ...]:
    how = "numbers, names, a pattern such as `ord*`, or `all`" if step.many else "its number or name"
    shown: Iterable[int] = range(len(step.choices))
    searches = "; a part of a name searches" if len(step.choices) > _MOST_SHOWN else ""
    _list(step, shown)
    if step.note:
        _write(_folded(step.note))
    while True:
        typed = _prompt(f"{step.question} ({how}{searches})", step.default)
        try:
            found = read_pick(typed, step)
        except ValueError as wrong:
            _write(_folded(f"  {wrong}"))
            continue
        if isinstance(found, Picked):
            if found.values != (typed,):
                _write(_folded(f"  {', '.join(found.values)}"))
            return found.values
        _list(step, found.positions)


def _list(step: Pick, positions: Iterable[int]) -> None:
    """The choices of these positions, as many as a screen holds, numbered as in the whole list."""
    every = [*positions]
    shown = every[:_MOST_SHOWN]
    widest = min(max((len(step.choices[at].value) for at in shown), default=0), 40)
    for at in shown:
        choice = step.choices[at]
        head = f"{at + 1:>4}  {_told(choice.value):<{widest}}  "
        lines = textwrap.wrap(_told(choice.detail), max(_width() - len(head), 30))
        _write((head + f"\n{' ' * len(head)}".join(lines)).rstrip())
    if len(every) > len(shown):
        _write(f"      and {len(every) - len(shown):,} more: type a part of a name to search")


def _show(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The rows, of which no cell is long, and of as many columns as fit beside each other."""
    cells = [[_short(value) for value in row] for row in rows]
    room, fitting = _width(), 0
    for at, column in enumerate(columns):
        room -= max(len(_short(column)), *(len(row[at]) for row in cells)) + 2
        if room < 0 and fitting:
            break
        fitting += 1
    table([_short(column) for column in columns[:fitting]], [row[:fitting] for row in cells])
    if fitting < len(columns):
        _write(_folded(f"and the columns {', '.join(_told(column) for column in columns[fitting:])}"))


def _short(value: object) -> str:
    text = "NULL" if value is None else safe(value)
    return text if len(text) <= _WIDEST_CELL else f"{text[: _WIDEST_CELL - 3]}..."


def _folded(text: str) -> str:
    """Each line folded between words, and what follows indented as its beginning is."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(line.strip(), _width(), initial_indent=indent, subsequent_indent=indent) or [
            ""
        ]
    return "\n".join(lines)


def _width() -> int:
    return shutil.get_terminal_size().columns


def _told(text: str) -> str:
    return safe(redacted(text))


def _write(text: str) -> None:
    typer.echo(plain(redacted(text)), err=True)
