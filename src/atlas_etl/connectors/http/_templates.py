"""Texts of a definition with `{name}` in them. What replaces a name is data, and is not looked at again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from atlas_etl.connectors.http._documents.records import Scalar

_NAME = re.compile(r"\{(\w+)\}")

Values = Mapping[str, Scalar]


class Template(str):
    """A text with names that nobody has replaced so far; as a text, it is what was written."""

    parts: tuple[str, ...]  # what stands between names, and names, in turn

    def __new__(cls, parts: Sequence[str]) -> Template:
        made = super().__new__(
            cls, "".join(f"{{{part}}}" if at % 2 else part for at, part in enumerate(parts))
        )
        made.parts = tuple(parts)
        return made


def template(text: str) -> str:
    """The text, with its names as such."""
    parts = _NAME.split(text)
    return Template(parts) if len(parts) > 1 else text


def template_body(body: JsonValue) -> JsonValue:
    """The same for each text of a body."""
    return _each_text(body, template)


def filled_text(text: str, values: Values, *, written: Callable[[str], str] = str) -> str:
    """The text with these names replaced, each by what is `written` for its value."""
    if not isinstance(text, Template):
        return text
    parts = [""]
    for at, part in enumerate(text.parts):
        if at % 2 == 0:
            parts[-1] += part
        elif part in values:
            parts[-1] += written(_text(values[part]))
        else:
            parts += (part, "")
    return Template(parts) if len(parts) > 1 else parts[0]


def filled_value(text: str, values: Values) -> Scalar:
    """The same; a text of nothing but one name becomes its value, with its type."""
    if isinstance(text, Template) and text.parts[::2] == ("", "") and text.parts[1] in values:
        return values[text.parts[1]]
    return filled_text(text, values)


def filled_body(body: JsonValue, values: Values) -> JsonValue:
    """A body with these names replaced in all of its texts."""
    return _each_text(body, lambda text: filled_value(text, values))


def plain_body(body: JsonValue) -> JsonValue:
    """A body of nothing but JSON's own kinds."""
    return _each_text(body, str)


def _each_text(body: JsonValue, change: Callable[[str], Scalar]) -> JsonValue:
    if isinstance(body, str):
        return change(body)
    if isinstance(body, dict):
        return {name: _each_text(inner, change) for name, inner in body.items()}
    return [_each_text(inner, change) for inner in body] if isinstance(body, list) else body


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
