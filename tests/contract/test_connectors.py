"""The contract of Connector and Extract, for every protocol that is read from."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import Checkpoint, CursorKind, CursorValue, ReadRequest
from atlas_etl.testing import PEOPLE, ConnectorContract, Person, Source, read
from tests.contract.connector_cases import CONNECTORS, ConnectorCase, SqlSource

SQL_ONLY = [case for case in CONNECTORS if case.is_sql]


@pytest.fixture(params=SQL_ONLY, ids=lambda case: case.name)
def sql_source(request: pytest.FixtureRequest, tmp_path: Path) -> SqlSource:
    found = request.param.open(request, tmp_path)
    assert isinstance(found, SqlSource)
    return found


class TestConnectors(ConnectorContract):
    """Each protocol of this package."""

    @pytest.fixture(params=CONNECTORS, ids=lambda case: case.name)
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        case: ConnectorCase = request.param
        return case.open(request, tmp_path)


def test_keys_and_nullability_come_from_the_catalog(sql_source: SqlSource) -> None:
    sql_source.create(PEOPLE)
    described = sql_source.connector.describe(sql_source.stream())
    assert described.primary_key == ("id",)
    assert [column.nullable for column in described.columns] == [False, True, True, True]


def test_a_table_without_rows(sql_source: SqlSource) -> None:
    sql_source.create([])
    rows, checkpoint = read(sql_source, ReadRequest(sql_source.stream(cursor="updated_at")))
    assert (rows, checkpoint) == ([], None)
    with sql_source.connector.open(ReadRequest(sql_source.stream())) as extract:
        assert extract.schema.names == ["id", "name", "amount", "updated_at"]


def test_rows_written_while_reading_are_not_seen(sql_source: SqlSource) -> None:
    if not sql_source.shared:
        pytest.skip(f"{sql_source.protocol} locks its file against writers while it is read")
    sql_source.create(PEOPLE)
    with sql_source.connector.open(ReadRequest(sql_source.stream(cursor="id"))) as extract:
        sql_source.insert([(5, "meanwhile", "1.00", "2026-01-03 00:00:00.000000")])
        assert sum(batch.num_rows for batch in extract.batches()) == 4
        checkpoint = extract.checkpoint()
    assert checkpoint is not None
    assert checkpoint.high.text == "4"


def test_a_query_is_a_stream(sql_source: SqlSource) -> None:
    sql_source.create(PEOPLE)
    stream = sql_source.stream(
        table=None, query="SELECT id * 2 AS twice, name FROM people WHERE id > 1;", cursor="twice"
    )
    rows, checkpoint = read(sql_source, ReadRequest(stream, since=CursorValue(CursorKind.INTEGER, "6")))
    assert sorted(rows) == [("6", None), ("8", "")]
    assert checkpoint is not None
    assert checkpoint.high == CursorValue(CursorKind.INTEGER, "8")


def test_a_query_may_end_with_a_comment(sql_source: SqlSource) -> None:
    sql_source.create(PEOPLE)
    stream = sql_source.stream(table=None, query="SELECT id FROM people -- all of them", cursor="id")
    rows, _ = read(sql_source, ReadRequest(stream, since=CursorValue(CursorKind.INTEGER, "4")))
    assert rows == [("4",)]


def test_a_text_cursor_keeps_the_spellings_of_its_tail(sql_source: SqlSource) -> None:
    sql_source.create([(1, "a", None, None), (2, "b", None, None), (3, "b", None, None)])
    _, checkpoint = read(sql_source, ReadRequest(sql_source.stream(cursor="name")))
    text = CursorValue(CursorKind.TEXT, "b")
    assert checkpoint == Checkpoint("name", text, text, tail_values=("b",))


@pytest.mark.parametrize("name", ['we"ird;--', "se lect", "ümläut 😀", "back`tick", "per%cent"])
def test_odd_names(sql_source: SqlSource, name: str) -> None:
    if max(name) > sql_source.widest_letter:
        pytest.skip(f"{sql_source.protocol} has no such names")
    quote = sql_source.quote
    quoted = quote + name.replace(quote, quote * 2) + quote
    sql_source.execute(f"CREATE TABLE {quoted} ({quoted} INT)")
    sql_source.execute(f"INSERT INTO {quoted} VALUES (7)")
    stream = sql_source.stream(table=name, cursor=name)
    rows, checkpoint = read(sql_source, ReadRequest(stream, since=CursorValue(CursorKind.INTEGER, "1")))
    assert rows == [("7",)]
    assert checkpoint is not None


def test_a_table_that_is_not_there(sql_source: SqlSource) -> None:
    sql_source.create(PEOPLE)
    with pytest.raises(SourceError, match="peple") as caught:
        sql_source.connector.describe(sql_source.stream(table="peple"))
    assert (caught.value.code, caught.value.exit_code) == ("table_not_found", 3)
    assert "people" in str(caught.value.hint)


def test_a_query_that_is_wrong(sql_source: SqlSource) -> None:
    sql_source.create(PEOPLE)
    with pytest.raises(SourceError) as caught:
        sql_source.connector.describe(sql_source.stream(table=None, query="SELECT nope FROM people"))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("cursor", ["id", "name", "updated_at"])
def test_a_table_that_is_set_back(sql_source: SqlSource, cursor: str) -> None:
    """Rows before the checkpoint that came after it; a deletion looks the same, and neither is an error."""
    early: Person = (1, "a", None, "2026-01-01 10:00:00.000001")
    late: Person = (2, "b", None, "2026-01-02 10:00:00.000001")
    stream = sql_source.stream(cursor=cursor)
    sql_source.create([early, late])
    _, reached = read(sql_source, ReadRequest(stream))
    assert reached is not None
    again = ReadRequest(stream, since=reached.tail_from, past=reached.high, watermarks=reached.watermarks)
    for statement, warned in [
        (None, False), ("DELETE FROM people WHERE id = 2", True), ("DELETE FROM people", False)
    ]:  # fmt: skip
        if statement is not None:
            sql_source.execute(statement)
        with closing(sql_source.connector) as connector, connector.open(again) as extract:
            left = sum(batch.num_rows for batch in extract.batches())
            checkpoint, warnings = extract.checkpoint(), extract.warnings()
        assert (checkpoint is None) is (left == 0) is (statement is not None)
        assert [reached.tail_from.text in warning for warning in warnings] == [True] * warned


def test_a_cursor_that_cannot_be_compared(sql_source: SqlSource) -> None:
    blob = "BYTEA" if sql_source.protocol == "postgresql" else "BLOB"
    sql_source.execute(f"CREATE TABLE blobs (content {blob})")
    with pytest.raises(ConfigError, match="content") as caught:
        read(sql_source, ReadRequest(sql_source.stream(table="blobs", cursor="content")))
    assert caught.value.code == "cursor_type"
