"""What an unquoted scalar means: null, a boolean, a number that loses nothing, or text.

This is narrower than YAML 1.1 and YAML 1.2's core schema, so that no reading is a surprise:

- null is empty, `~`, `null`; booleans are `true` and `false` only (`no`, `off`, `yes`, `NO` are text);
- a number is one only where writing it back gives the same text: `5432` and `0.5` are numbers, but
  `0123`, `1.10`, `1_000`, `0x1F` and `1e5` stay text (a field that wants a number reads those as well);
- dates and times are text.

The cases of null and the booleans are those of https://yaml.org/spec/1.2.2/#1032-tag-resolution.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?(e[-+][0-9]{1,3})?")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")


def plain_scalar(text: str) -> Scalar:
    """The value of an unquoted scalar; see the rules above."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    number = float(text) if match[1] or match[2] else int(text)
    return number if repr(number) == text else text


def is_sexagesimal(text: str) -> bool:
    """Whether YAML 1.1 readers may take this text for a number in base 60, as in `12:30:45`."""
    return _SEXAGESIMAL.fullmatch(text) is not None
