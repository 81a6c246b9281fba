"""The kinds of values that definitions and atlas.yaml have in common, as pydantic types."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from atlas_etl.config.annotations import fields_of
from atlas_etl.config.schedule import check_schedule, check_test_schedule
from atlas_etl.errors import nearest
from atlas_etl.model import Hazard, HazardPolicy

MOST_QUARANTINED = 100_000  # they pass through memory

MODEL_CONFIG = ConfigDict(
    extra="forbid",
    frozen=True,
    hide_input_in_errors=True,
    coerce_numbers_to_str=True,  # `name: 2024` is a name
)

NAME_RULE = "letters and digits, with single `-` or `_` between them, beginning with a letter, at most 63"
_NAME = re.compile(r"[A-Za-z](?:[-_]?[A-Za-z0-9])*")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?\s*(?:ms|s|m|h|d|w)\s*)+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)")
_UNITS: Mapping[str, timedelta] = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_SIZE = re.compile(r"([0-9]+)\s*(B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_SIZE_UNITS: Mapping[str, int] = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}


def check_name(name: str) -> str:
    """A connector's or destination's name: file name, environment variable and schema at once.

    A doubled `_` would make `ATLAS_CONNECTOR_<NAME>__<KEY>` ambiguous. Raises ValueError.
    """
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise ValueError(f"a name is made of {NAME_RULE}")
    return name


def parse_duration(value: object) -> timedelta:
    """A length of time: `90s`, `5m`, `1h30m`, `90d`, or a number of seconds. Raises ValueError."""
    if isinstance(value, timedelta):
        length = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        length = _times(timedelta(seconds=1), float(value))
    elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        parts = _DURATION_PART.findall(value)
        length = sum((_times(_UNITS[unit], float(number)) for number, unit in parts), timedelta())
    elif isinstance(value, str) and value.strip().isdecimal():
        length = _times(timedelta(seconds=1), float(value))
    else:
        raise ValueError("should be a length of time such as 90s, 5m, 1h30m or 2d (ms, s, m, h, d, w)")
    if length < timedelta():
        raise ValueError("should not be negative")
    return length


def _times(unit: timedelta, number: float) -> timedelta:
    try:
        return unit * number
    except (OverflowError, ValueError):
        raise ValueError("is too long a time") from None


def _parse_size(value: object) -> object:
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, str) and match is None:
        raise ValueError("should be a number of bytes, such as 16777216 or 16MiB")
    return int(match[1]) * _SIZE_UNITS[(match[2] or "").lower()] if match else value


def check_zone(name: str) -> str:
    """An IANA time zone's name. Raises ValueError with the nearest names."""
    try:
        if name != "UTC":
            ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = nearest(name, available_timezones()) or "use a name such as Europe/Berlin or UTC"
        raise ValueError(f"is not a known time zone; {hint}") from None
    return name


def check_encoding(name: str) -> str:
    """Python's own name of a charset, such as `cp1252` of `windows-1252`. Raises ValueError."""
    try:
        b"a".decode(name, "ignore")  # some codecs are none of text
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise ValueError(f"there is no encoding {name!r}") from None


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history is kept: runs younger than `age`, or the newest `runs` of each connector."""

    age: timedelta | None = None
    runs: int | None = None


def _parse_retention(value: object) -> object:
    if value is None or isinstance(value, Retention):
        return value
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError("should keep at least one run")
        return Retention(runs=value)
    try:
        return Retention(age=parse_duration(value))
    except ValueError:
        raise ValueError("should be a time such as 90d, or a number of runs") from None


def _no_yaml_null(value: object) -> object:
    # `infinity: null` says the policy `null`, which YAML reads as no value.
    if isinstance(value, Mapping):
        return {key: "null" if policy is None else policy for key, policy in value.items()}
    return value


def without_nulls(values: Mapping[str, object], model: type[BaseModel]) -> dict[str, object]:
    """The values without the model's keys that are null: `streams:` with nothing after it was not set."""
    known = fields_of(model)
    return {key: value for key, value in values.items() if value is not None or key not in known}


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _distinct(columns: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(columns)) != len(columns):
        raise ValueError("names a column twice")
    return columns


def _text(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("should be text on one line, without control characters")
    return value


_DURATION_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _DURATION.pattern}],
    "description": "a length of time such as 90s, 5m, 1h30m, 2d, or a number of seconds",
}
_POLICIES: list[str | None] = [*(policy.value for policy in HazardPolicy), None]

Name = Annotated[str, AfterValidator(check_name)]
Line = Annotated[str, AfterValidator(_text)]
Schedule = Annotated[str, AfterValidator(check_schedule)]
TestSchedule = Annotated[str, AfterValidator(check_test_schedule)]
Zone = Annotated[str, AfterValidator(check_zone)]
Encoding = Annotated[str, AfterValidator(check_encoding)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[
    int,
    BeforeValidator(_parse_size),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": _SIZE.pattern}]}),
]
HistoryRetention = Annotated[
    Retention | None,
    BeforeValidator(_parse_retention),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}, {"type": "null"}]},
    ),
]
Columns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    AfterValidator(_distinct),
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Hazards = Annotated[
    dict[Hazard, HazardPolicy],
    BeforeValidator(_no_yaml_null),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {hazard.value: {"enum": _POLICIES} for hazard in Hazard},
            "additionalProperties": False,
        }
    ),
]
