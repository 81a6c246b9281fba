"""How shells ask what may follow on a command line, and how they are answered.

These are the two ends of the scripts that `atlas --install-completion` installs, which are Typer's own
(typer/_completion_shared.py). Once it is loaded, it answers them alike (typer/_completion_classes.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Offer(NamedTuple):
    """What may stand in the place of the last word."""

    value: str
    help: str | None = None


class Words(NamedTuple):
    """The words behind `atlas`, and the one that is being typed."""

    complete: list[str]
    incomplete: str


class Answer(NamedTuple):
    """What goes to standard output, and the exit code."""

    text: str
    exit_code: int = 0


class Shell(NamedTuple):
    """One shell's way of asking, by variables of the environment, and what it takes for an answer."""

    asked: Callable[[Mapping[str, str]], Words]
    answer: Callable[[Sequence[Offer], Mapping[str, str]], Answer]


def _split(text: str) -> list[str]:
    """As a shell does; a quote that is still open reaches to the end."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:
        words.append(lexer.token)
    return words


def _asked_by_bash(environ: Mapping[str, str]) -> Words:
    words, place = _split(environ.get("COMP_WORDS", "")), int(environ.get("COMP_CWORD", "1"))
    incomplete = words[place] if place < len(words) else ""
    return Words([word for word in words[1:place] if word != "="], "" if incomplete == "=" else incomplete)


def _asked_by_line(environ: Mapping[str, str]) -> Words:
    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    return Words(words, "") if line.endswith(" ") or not words else Words(words[:-1], words[-1])


def _asked_by_powershell(environ: Mapping[str, str]) -> Words:
    words = _split(environ.get("_TYPER_COMPLETE_ARGS", ""))[1:]
    incomplete = environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
    return Words(words[:-1] if incomplete else words, incomplete)


def _bash(offers: Sequence[Offer], _environ: Mapping[str, str]) -> Answer:
    return Answer("\n".join(offer.value for offer in offers))


def _zsh(offers: Sequence[Offer], _environ: Mapping[str, str]) -> Answer:
    if not offers:
        return Answer("_files")
    lines = [
        f'"{_for_zsh(offer.value)}"' + (f':"{_for_zsh(offer.help)}"' if offer.help else "")
        for offer in offers
    ]
    return Answer("_arguments '*: :(({}))'".format("\n".join(lines)))


def _for_zsh(text: str) -> str:
    doubled = text.replace('"', '""').replace("'", "''")
    return doubled.replace("$", "\\$").replace("`", "\\`").replace(":", r"\\:")


def _fish(offers: Sequence[Offer], environ: Mapping[str, str]) -> Answer:
    action = environ.get("_TYPER_COMPLETE_FISH_ACTION")
    if action == "is-args":  # asked first: no answers means that files may stand here
        return Answer("", 0 if offers else 1)
    if action != "get-args":
        return Answer("")
    return Answer("\n".join(_for_fish(offer) for offer in offers))


def _for_fish(offer: Offer) -> str:
    return offer.value + ("\t" + re.sub(r"\s", " ", offer.help) if offer.help else "")


def _powershell(offers: Sequence[Offer], _environ: Mapping[str, str]) -> Answer:
    return Answer("\n".join(f"{offer.value}:::{offer.help or ' '}" for offer in offers))


SHELLS: Mapping[str, Shell] = {
    "bash": Shell(_asked_by_bash, _bash),
    "zsh": Shell(_asked_by_line, _zsh),
    "fish": Shell(_asked_by_line, _fish),
    "powershell": Shell(_asked_by_powershell, _powershell),
    "pwsh": Shell(_asked_by_powershell, _powershell),
}
