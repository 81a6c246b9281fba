"""Answers a shell that completes a command line, with commands.json and no command loaded.

`scripts/docs` makes that file from the commands. A test has Typer answer the same questions.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

from atlas_etl.cli.candidates import Line
from atlas_etl.cli.command_file import COMMANDS
from atlas_etl.cli.shells import SHELLS, Offer

_PROJECT = "--project"


class Values(TypedDict, total=False):
    """What may be given: one of these, or what a function `module:name` finds; else anything."""

    values: list[str]
    candidates: str


class Option(Values):
    """An option of a command."""

    names: list[str]
    help: str | None
    takes_value: bool
    repeats: bool


class Argument(Values):
    """An argument of a command; `many` takes all that follow."""

    many: bool


class CommandEntry(TypedDict):
    """A command, or a group of `commands`."""

    help: str
    commands: list[str]
    options: list[Option]
    arguments: list[Argument]


Commands = Mapping[str, CommandEntry]  # by their words behind `atlas`


class Place(NamedTuple):
    """Where the words have led: the command, what it was given, and the option whose value comes next."""

    command: str
    line: Line
    used: frozenset[str]
    pending: Option | None
    has_ended_options: bool


def main() -> None:
    """Answer the shell that set `_ATLAS_COMPLETE`, and end the process."""
    shell = SHELLS[os.environ["_ATLAS_COMPLETE"].removeprefix("complete_")]
    words = shell.asked(os.environ)
    commands: Commands = json.loads(COMMANDS.read_bytes())
    answer = shell.answer(list(offers(commands, words.complete, words.incomplete)), os.environ)
    if answer.exit_code == 0:
        sys.stdout.buffer.write(f"{answer.text}\n".encode(errors="surrogateescape"))
    sys.exit(answer.exit_code)


def offers(commands: Commands, words: Sequence[str], incomplete: str) -> Iterator[Offer]:
    """What may stand in the place of `incomplete`, behind these words."""
    if incomplete.startswith("-") and "=" in incomplete:
        name, _, incomplete = incomplete.partition("=")
        words = [*words, name]
    place = _place(commands, words)
    command = commands[place.command]
    if incomplete.startswith("-") and not place.has_ended_options:
        found = _options(command, place.used)
    elif place.pending is not None:
        found = _values(place.pending, place.line)
    elif (argument := _open_argument(command, len(place.line.arguments))) is not None:
        found = _values(argument, place.line)
    else:
        found = (Offer(name, commands[_inner(place.command, name)]["help"]) for name in command["commands"])
    return (offer for offer in found if offer.value.startswith(incomplete))


def _place(commands: Commands, words: Sequence[str]) -> Place:
    """Follow the words; what no command knows is passed over, for it may be mended yet."""
    at, project, pending, has_ended = "", None, None, False
    arguments: list[str] = []
    used: set[str] = set()
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if pending is not None:
            project = Path(word) if pending["names"][0] == _PROJECT else project
            used.update(pending["names"])
            pending = None
        elif has_ended or not word.startswith("-") or word == "-":
            if word in commands[at]["commands"]:
                at, used, arguments = _inner(at, word), set(), []
            else:
                arguments.append(word)
        elif word == "--":
            has_ended = True
        else:
            name, value = _name_and_value(word)
            option = _known(commands, at).get(name)
            if option is not None and option["takes_value"]:
                pending = option
                remaining[:0] = [] if value is None else [value]
            elif option is not None:
                used.update(option["names"])
    return Place(at, Line(project, tuple(arguments)), frozenset(used), pending, has_ended)


def _inner(group: str, name: str) -> str:
    return f"{group} {name}".lstrip()


def _known(commands: Commands, at: str) -> dict[str, Option]:
    """The command's own options and those that may stand anywhere."""
    options = [*commands[""]["options"], *commands[at]["options"]]
    return {name: option for option in options for name in option["names"]}


def _name_and_value(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None


def _options(command: CommandEntry, used: Container[str]) -> Iterator[Offer]:
    for option in command["options"]:
        if option["repeats"] or option["names"][0] not in used:
            yield from (Offer(name, option["help"]) for name in option["names"])


def _open_argument(command: CommandEntry, given: int) -> Argument | None:
    for place, argument in enumerate(command["arguments"]):
        if argument["many"] or place >= given:
            return argument
    return None


def _values(asked: Values, line: Line) -> Iterator[Offer]:
    found = asked.get("values", [])
    if "candidates" in asked:
        module, _, name = asked["candidates"].partition(":")
        found = getattr(importlib.import_module(module), name)(line)
    return map(Offer, found)
