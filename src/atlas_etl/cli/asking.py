"""Secrets from a person or a pipe: a prompt that shows nothing, or standard input; never an argument."""

from __future__ import annotations

import sys

import typer

from atlas_etl.errors import UsageError
from atlas_etl.redactor import learn

_MOST = 1024 * 1024


def ask_secret(what: str) -> str:
    """One line, typed unseen on a terminal, else the next one of stdin. Raises UsageError."""
    if sys.stdin.isatty():
        text = str(typer.prompt(what, hide_input=True, err=True))
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    learn([text])
    if not text:
        raise UsageError(
            f"nothing on stdin for {what!r}",
            hint="give it on a line of its own, e.g. from a password manager: pass show shop | atlas ...",
        )
    return text


def ask_whole_secret(what: str) -> str:
    """One line typed unseen, or all of stdin but its last line break. Raises UsageError."""
    if sys.stdin.isatty():
        return ask_secret(what)
    text = sys.stdin.read(_MOST + 1)
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(text) > _MOST:
        raise UsageError(
            f"stdin should hold {what!r}, at most {_MOST} characters", hint=f"atlas secret set {what} < file"
        )
    return text
