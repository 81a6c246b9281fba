"""What is wrong with a definition, in words: pydantic's errors as one ConfigError that shows no value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from atlas_etl.config.annotations import fields_of, model_at
from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.errors import ConfigError, nearest

MAX_LINES = 5

_QUOTED = re.compile(r"'([^']*)'")

# Where pydantic speaks of Python's types, say what to write.
_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "should be text; put it in quotes",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be a mapping (`key: value` lines)",
    "model_type": "should be a mapping (`key: value` lines)",
    "model_attributes_type": "should be a mapping (`key: value` lines)",
}


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    values: Mapping[str, object],
    place: Callable[[KeyPath], str],
    below: KeyPath = (),
) -> ConfigError:
    """One ConfigError (`invalid_config`) of at most MAX_LINES lines for everything that is wrong.

    `values` is what was validated, `place` says where a key was written (a file and line, a variable),
    and `below` is the key under which the values stand in that file.
    """
    found = [_problem(detail, model, values) for detail in error.errors(include_url=False)]
    lines = [f"{place((*below, *path))}: {_named((*below, *path))}{why}" for path, why, _ in found]
    hints = [hint for *_, hint in found]
    if len(lines) == 1:
        return ConfigError(lines[0], hint=hints[0], code="invalid_config")
    lines = [f"{line} ({hint})" if hint else line for line, hint in zip(lines, hints, strict=True)]
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], f"... and {len(lines) - MAX_LINES + 1} more"]
    return ConfigError("\n".join(lines), code="invalid_config")


def _named(path: KeyPath) -> str:
    return f"{dotted(path)}: " if path else ""


def _problem(
    detail: ErrorDetails, model: type[BaseModel], values: Mapping[str, object]
) -> tuple[KeyPath, str, str | None]:
    path = _written(detail["loc"], values, missing=detail["type"] == "missing")
    if detail["type"] == "extra_forbidden":
        parent = model_at(model, path[:-1])
        known = list(fields_of(parent)) if parent else []
        hint = nearest(str(path[-1]), known)
        if hint is None and known:
            hint = f"the keys here are {', '.join(known)}"
        return path, "unknown key", hint
    if detail["input"] is None and path:
        return path, "has no value", None
    if detail["type"] == "string_type" and isinstance(detail["input"], Mapping | list):
        what = "a list" if isinstance(detail["input"], list) else "a mapping"
        return path, f"should be text, not {what}", None
    if detail["type"] in _WORDS:
        return path, _WORDS[detail["type"]], None
    hint = nearest(str(detail["input"]), _QUOTED.findall(str(detail.get("ctx", {}).get("expected", ""))))
    why = detail["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
    return path, why[:1].lower() + why[1:] if why[1:2].islower() else why, hint


def _written(loc: KeyPath, values: object, *, missing: bool) -> KeyPath:
    """The location without the parts that pydantic adds for the branches of a union."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        if missing and index == len(loc) - 1:
            path.append(part)
        elif isinstance(values, Mapping) and part in values:
            path.append(part)
            values = values[str(part)]
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            path.append(part)
            values = values[part]
    return tuple(path)
