"""How a definition says that an API is asked for what is new, and in which windows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from atlas_etl.config.fields import parse_duration
from atlas_etl.connectors.http._settings.auth import MODEL
from atlas_etl.connectors.http._settings.pagination import check_members


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time on the calendar."""

    months: int
    length: timedelta


_CALENDAR = re.compile(r"([1-9][0-9]*)\s*(month|year)s?")
_SHORTEST = timedelta(minutes=1)


def _span(value: object) -> object:
    found = _CALENDAR.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is not None:
        return Span(int(found[1]) * (12 if found[2] == "year" else 1), timedelta())
    if value is None or isinstance(value, Span):
        return value
    try:
        length = parse_duration(value)
    except ValueError:
        raise ValueError("should be a length of time such as 1 month, 1 year, 30d or 12h") from None
    if length < _SHORTEST:
        raise ValueError("should be a minute at least")
    return Span(0, length)


SpanField = Annotated[
    Span, BeforeValidator(_span), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]


# Of strftime's directives, and their plain forms: %-d, %e.
_YEARS = "YyGCDFxcs"
_DAYS = "djeDFxcs"


def _tells(form: str, directives: str) -> bool:
    return re.search(rf"%-?[{directives}]", form.replace("%%", "")) is not None


class Since(BaseModel):
    """How the checkpoint is written for an API, and what its answers hold then."""

    model_config = MODEL

    format: str = Field(
        default="iso8601",
        min_length=1,
        description="iso8601, epoch, epoch_ms, date, plain (as records have it), or such as %Y-%m-%d %H:%M",
    )
    boundary: Literal["inclusive", "exclusive"] = Field(
        default="inclusive", description="whether records that are equal to the parameter come"
    )
    order: Literal["none", "ascending", "descending"] = Field(
        default="none",
        description="of the cursor: ascending commits long loads in windows, descending stops early",
    )
    start: datetime | None = Field(
        default=None, description="where the first sync begins, e.g. 2024-01-01 or 2024-01-01T00:00:00Z"
    )
    window: SpanField | None = Field(
        default=None,
        description="how much is asked for at once, e.g. 1 month, 30d: from the checkpoint to now",
    )

    @property
    def is_asked(self) -> bool:
        """Whether the API is told the checkpoint."""
        return False

    @model_validator(mode="after")
    def _known_format(self) -> Since:
        if self.format not in ("iso8601", "epoch", "epoch_ms", "date", "plain") and "%" not in self.format:
            raise ValueError("format: should be iso8601, epoch, epoch_ms, date, plain or a pattern with %")
        if "%" in self.format and not _tells(self.format, _YEARS):
            raise ValueError("format: a pattern should tell the year, or it says nothing of when")
        return self


class Incremental(Since):
    """How the API is asked for what is new since the checkpoint; without it, what is old is left out here."""

    parameter: str | None = Field(default=None, description="its name, e.g. updated_since")
    into: Literal["query", "header", "body", "template"] = Field(
        default="query",
        description="where it is sent; a name in the body may be a path: filter.since; template: it replaces "
        "`{name}` in path, params and body",
    )
    initial: str | int | None = Field(
        default=None, description="what is sent instead as long as there is no checkpoint"
    )
    end_parameter: str | None = Field(
        default=None, description="the name of the end that is sent with it, e.g. updated_until"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Incremental:
        if self.into == "body":
            check_members(self.parameter, self.end_parameter)
        check_windows(self, self.parameter, self.end_parameter, names="parameter and end_parameter")
        if self.initial is not None and (self.parameter is None or self.start is not None):
            raise ValueError("initial needs a parameter, and no `start`")
        if self.into == "template" and self.parameter is not None and self.initial is None is self.start:
            raise ValueError("a parameter in a template needs `initial` or `start` for the first sync")
        return self

    @property
    def is_asked(self) -> bool:
        return self.parameter is not None


def check_windows(how: Since, begin: str | None, end: str | None, *, names: str) -> None:
    """Raises ValueError for windows without what they need."""
    if how.window is not None and (begin is None or end is None):
        raise ValueError(f"window needs {names}")
    if end is not None and how.start is None:
        raise ValueError("an end needs `start`, from which the first sync reads")
    is_coarse = "%" in how.format and not _tells(how.format, _DAYS)
    if is_coarse and (how.boundary == "exclusive" or end is not None):
        raise ValueError(
            "format: a pattern that does not tell the day is for an inclusive boundary and no end"
        )
    if how.start is not None and begin is None:
        raise ValueError("start needs the parameter that it is sent as")
