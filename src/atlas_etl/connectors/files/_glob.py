"""Paths that match a glob, each folder looked into once: links in a circle have no end otherwise.

`*`, `?` and `[a-z]` match within a name, `**` any number of folders. Hidden names need a literal dot. What is
reached by a link and also without one is found without it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase

_ANY_FOLDERS = "**"


def matching(pattern: str) -> set[str]:
    """Files and folders that match an absolute pattern."""
    return set(_below("/", pattern.strip("/").split("/")))


def _below(folder: str, parts: list[str]) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if part == _ANY_FOLDERS:
        for below in _folders(folder):
            yield from _below(below, rest) if rest else _children(below)
        return
    if glob.has_magic(part):
        found = [
            name
            for name in _names(folder)
            if fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))
        ]
    else:
        found = [part]
    for name in found:
        path = os.path.join(folder, name)
        if rest:
            if os.path.isdir(path):
                yield from _below(path, rest)
        elif os.path.lexists(path):
            yield path


def _folders(top: str) -> Iterator[str]:
    """The folder and the visible ones below it, those behind links last."""
    seen: set[str] = set()
    waiting, linked = [top], list[str]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        yield folder
        try:
            with os.scandir(folder) as entries:
                below = [e for e in entries if e.is_dir() and not e.name.startswith(".")]
        except OSError:
            continue  # as any glob does
        for entry in below:
            (linked if entry.is_symlink() else waiting).append(entry.path)


def _children(folder: str) -> Iterator[str]:
    return (os.path.join(folder, name) for name in _names(folder) if not name.startswith("."))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
