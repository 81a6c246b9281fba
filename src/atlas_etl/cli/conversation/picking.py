"""What was typed at a list, pure: a number, a name, a pattern, several of them, or a part of a name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from atlas_etl.cli.conversation.steps import Choice, Pick
from atlas_etl.errors import nearest

EVERY = "all"
_RANGE = re.compile(r"([0-9]{1,6})-([0-9]{1,6})")


class Picked(Struct, frozen=True):
    """The values that were meant."""

    values: tuple[str, ...]


class Narrowed(Struct, frozen=True):
    """The positions, from 0, of the choices that a part of a name or of a detail leaves."""

    positions: tuple[int, ...]


def read_pick(typed: str, question: Pick) -> Picked | Narrowed:
    """What was meant. Raises ValueError, with the nearest names, where that is nothing.

    Numbers are those of the whole list, whatever part of it is shown.
    """
    text = typed.strip() or question.default
    whole = _exactly(text, question.choices)
    if whole is not None:
        return Picked((whole,))
    words = [word for word in re.split(r"[,\s]+", text) if word]
    if not words:
        raise ValueError("nothing was picked")
    if not question.many:
        return _one(text, question.choices)
    if len(words) == 1:
        found = tuple(_matching(words[0], question.choices))
        return Picked(found) if found else _one(text, question.choices)
    values: list[str] = []
    for word in words:
        found = tuple(_matching(word, question.choices))
        if not found:
            raise ValueError(_unknown(word, question.choices))
        values += found
    return Picked(tuple(dict.fromkeys(values)))


def _matching(word: str, choices: Sequence[Choice]) -> Iterator[str]:
    exact = _exactly(word, choices)
    bounds = _RANGE.fullmatch(word)
    if exact is not None:
        yield exact
    elif word.lower() == EVERY:
        yield from (choice.value for choice in choices)
    elif bounds is not None and 1 <= int(bounds[1]) <= int(bounds[2]) <= len(choices):
        yield from (choice.value for choice in choices[int(bounds[1]) - 1 : int(bounds[2])])
    elif re.search(r"[*?\[]", word):
        folded = word.lower()
        yield from (choice.value for choice in choices if fnmatchcase(choice.value.lower(), folded))


def _exactly(word: str, choices: Sequence[Choice]) -> str | None:
    """The choice of this name, then of this name in another case or of this alias, then of this number."""
    folded = word.lower()
    for found in (
        [choice.value for choice in choices if choice.value == word],
        [choice.value for choice in choices if folded in (choice.value.lower(), *choice.aliases)],
    ):
        if len(found) == 1:
            return found[0]
    if word.isascii() and word.isdecimal() and 1 <= int(word) <= len(choices):
        return choices[int(word) - 1].value
    return None


def _one(text: str, choices: Sequence[Choice]) -> Picked | Narrowed:
    folded = text.lower()
    by_name = [at for at, choice in enumerate(choices) if folded in choice.value.lower()]
    found = by_name or [at for at, choice in enumerate(choices) if folded in choice.detail.lower()]
    if not found:
        raise ValueError(_unknown(text, choices))
    if len(found) > 1 or text.isdecimal():  # a number was meant for a place in the list
        return Narrowed(tuple(found))
    return Picked((choices[found[0]].value,))


def _unknown(word: str, choices: Sequence[Choice]) -> str:
    hint = nearest(word, [name for choice in choices for name in (choice.value, *choice.aliases)])
    return f"there is no {word!r}" + (f"; {hint}" if hint else f" among the {len(choices)} of the list")
