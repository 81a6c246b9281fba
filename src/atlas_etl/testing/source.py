"""A source under test: how a test writes rows to it, and reads them by its connector."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector, ConnectionConfig
from atlas_etl.model import Checkpoint, CursorKind, CursorValue, ReadRequest, Stream

Person: TypeAlias = tuple[int, str | None, str | None, str | None]
"""An id (64 bits, never NULL), a name, an amount (a decimal with two digits behind its point, as text), and
`updated_at` (`2026-01-01 10:00:00.000001`: microseconds, of no time zone)."""

COLUMNS = ("id", "name", "amount", "updated_at")

PEOPLE: list[Person] = [
    (1, "Ada", "10.50", "2026-01-01 10:00:00.000001"),
    (2, "Łukasz 😀", "-0.01", "2026-01-01 10:00:00.000002"),
    (3, None, None, "2026-01-01 10:00:00.000002"),
    (4, "", "9999999999.99", "2026-01-02 00:00:00.500000"),
]

Row: TypeAlias = tuple[str | None, ...]


@dataclass
class Source(ABC):
    """A system with one stream, `people`, that a test writes to behind the connector's back.

    `config` are the connection's keys, of a system that is there and has nothing in it yet.
    """

    protocol: str
    config: dict[str, object]
    shared: ClassVar[bool] = True  # whether others may write while the connector reads

    @property
    def connector(self) -> BaseConnector[ConnectionConfig]:
        """A new connector, found by the protocol's name as any definition finds it."""
        return self.connector_of(self.config)

    def connector_of(self, config: dict[str, object]) -> BaseConnector[ConnectionConfig]:
        """A connector of other settings."""
        adapter = registry.load(self.protocol)
        assert adapter.connector is not None
        made = adapter.connector(adapter.connection.model_validate(config))
        assert isinstance(made, BaseConnector)
        return made

    def stream(self, **more: Any) -> Stream:
        """The stream `people`, with these fields set."""
        return replace(Stream("people", table="people"), **more)

    @abstractmethod
    def create(self, people: Sequence[Person]) -> None:
        """Make `people`, keyed by id where the system has keys."""

    @abstractmethod
    def insert(self, people: Sequence[Person]) -> None:
        """Add rows, committed."""

    @abstractmethod
    def nowhere(self) -> dict[str, object]:
        """The keys of `config` that lead to a system that is not there, with such values."""


def as_json(person: Person) -> str:
    """A JSON object; the amount is a number with all its digits."""
    fields = dict(zip(COLUMNS, person, strict=True))
    text = json.dumps({**fields, "amount": None}, ensure_ascii=False)
    return text.replace('"amount": null', f'"amount": {person[2] or "null"}')


def moment(text: str) -> CursorValue:
    """A person's `updated_at` as a cursor."""
    return CursorValue(CursorKind.TIMESTAMP, text.replace(" ", "T"))


def as_row(person: Person) -> Row:
    """What `read` is to give of a person."""
    number, name, amount, at = person
    return (str(number), name, amount, at.replace(" ", "T") if at else None)


def read(source: Source, request: ReadRequest) -> tuple[list[Row], Checkpoint | None]:
    """Every row as text, and the checkpoint."""
    connector = source.connector
    try:
        with connector.open(request) as extract:
            rows = [row for batch in extract.batches() for row in texts(batch)]
            return rows, extract.checkpoint()
    finally:
        connector.close()


def texts(batch: pa.RecordBatch) -> Iterator[Row]:
    """A batch's rows as text."""
    columns = [values.to_text(column).to_pylist() for column in batch.columns]
    return zip(*columns, strict=True)
