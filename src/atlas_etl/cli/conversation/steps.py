"""What a conversation consists of, as values: questions, what is said, and what has to be tried.

A conversation is a generator of steps, which is sent the answer of each; it does no I/O itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

from msgspec import Struct

from atlas_etl.api.draft import Draft
from atlas_etl.model import StreamInfo

T = TypeVar("T")


class Text(Struct, frozen=True):
    """A line is asked for; answered by a str, which `check` has made of what was typed.

    Nothing typed means `default`. `check` raises ValueError with what is wrong, and the question comes again.
    """

    question: str
    default: str = ""
    hidden: bool = False  # nothing of what is typed is shown
    check: Callable[[str], str] = str


class Choice(Struct, frozen=True):
    """One thing that can be picked."""

    value: str
    detail: str = ""
    aliases: tuple[str, ...] = ()


class Pick(Struct, frozen=True):
    """Some of the choices are to be named; answered by a tuple of their values, of one unless `many`."""

    question: str
    choices: tuple[Choice, ...]
    default: str = ""
    many: bool = False
    note: str = ""  # said between the choices and the question


class Confirm(Struct, frozen=True):
    """Answered by a bool."""

    question: str
    default: bool = True


class Say(Struct, frozen=True):
    """Prose for the person; answered by None."""

    text: str


class ShowFile(Struct, frozen=True):
    """A file's text for the person, line by line; answered by None."""

    path: str
    text: str


class ShowRows(Struct, frozen=True):
    """A table for the person; answered by None."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


class LoadModel(Struct, frozen=True):
    """Answered by the connection model of a protocol, or an AtlasError."""

    protocol: str


class TryConnection(Struct, frozen=True):
    """Answered by a ConnectionStatus or an AtlasError."""

    draft: Draft


class FindStreams(Struct, frozen=True):
    """Answered by an Offer or an AtlasError."""

    draft: Draft


class SampleColumns(Struct, frozen=True):
    """Answered by a mapping of columns to Samples, or an AtlasError."""

    draft: Draft
    table: StreamInfo
    columns: tuple[str, ...]


class PreviewRows(Struct, frozen=True):
    """Answered by a ShownRows or an AtlasError."""

    draft: Draft


class ShownRows(Struct, frozen=True):
    """The first rows of a stream."""

    stream: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


Question: TypeAlias = Text | Pick | Confirm
Work: TypeAlias = LoadModel | TryConnection | FindStreams | SampleColumns | PreviewRows
Step: TypeAlias = Question | Say | ShowFile | ShowRows | Work
Conversation: TypeAlias = Generator[Step, object, T]


def answer(step: Step, kind: type[T]) -> Conversation[T]:
    """Take a step whose answer is of this kind. Raises TypeError where it is of another."""
    given = yield step
    if not isinstance(given, kind):
        raise TypeError(f"{type(step).__name__} was answered by {type(given).__name__}")
    return given


def say(text: str) -> Conversation[None]:
    yield Say(text)


def picked(question: Pick) -> Conversation[str]:
    """The one value that was picked."""
    values = yield from answer(question, tuple)
    return str(values[0])
