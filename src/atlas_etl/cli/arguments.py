"""Options that every command takes may stand anywhere: they are moved to the front before parsing."""

from __future__ import annotations

from collections.abc import Iterable

FLAGS = frozenset({"--json", "-q", "--quiet", "-v", "-vv", "-vvv", "--verbose"})
WITH_VALUE = ("-C", "--project", "--log-format")


def hoisted(arguments: Iterable[str]) -> list[str]:
    """The same command line with the global options first. What follows `--` is left alone."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            return [*front, *rest, argument, *remaining]
        if argument in WITH_VALUE:
            front += [argument, *(value for value in (next(remaining, None),) if value is not None)]
        elif argument in FLAGS or argument.partition("=")[0] in WITH_VALUE:
            front.append(argument)
        else:
            rest.append(argument)
    return [*front, *rest]
