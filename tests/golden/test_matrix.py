"""The golden matrix: every type of every reader, into DuckDB, PostgreSQL and Parquet, value by value."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psycopg
import pymysql
import pytest

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.errors import HazardError
from atlas_etl.model import Hazard, HazardPolicy, ReadRequest, Stream
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.sides import sides_of
from atlas_etl.pipeline.transfer import transfer
from atlas_etl.pipeline.verify import StreamVerified, VerifyJob, verify
from tests.contract.destination_cases import DESTINATIONS, DestinationCase, server

# Per reader: type -> (literals in the source's SQL, canonical texts in every destination).
Cells = tuple[Sequence[str], Sequence[str]]

WIDE = "9" * 28 + "." + "9" * 10
POSTGRES: dict[str, Cells] = {
    "smallint": (["-32768", "32767"], ["-32768", "32767"]),
    "integer": (["-2147483648", "2147483647"], ["-2147483648", "2147483647"]),
    "bigint": (
        ["-9223372036854775808", "9223372036854775807"],
        ["-9223372036854775808", "9223372036854775807"],
    ),
    "oid": (["4294967295"], ["4294967295"]),
    "numeric(12,2)": (["-9999999999.99", "0.1"], ["-9999999999.99", "0.10"]),
    "numeric(38,10)": ([WIDE], [WIDE]),
    "numeric(60,5)": (["123456789012345678901234567890123456789012345.12345"],) * 2,
    "numeric": (["1.500", "1e30", "'NaN'"], ["1.500", "1" + "0" * 30, "NaN"]),
    "real": (["1.5", "'NaN'", "'Infinity'"], ["1.5", "nan", "inf"]),
    "double precision": (["0.1", "1e300", "'-Infinity'"], ["0.1", "1e+300", "-inf"]),
    "boolean": (["true", "false"], ["true", "false"]),
    "text": (["'日本語 😀'", "''", "E'a\\nb'"], ["日本語 😀", "", "a\nb"]),
    "varchar(20)": (["'ab'"], ["ab"]),
    "char(5)": (["'ab'"], ["ab   "]),
    "bytea": (["'\\x00ff'", "''"], ["00ff", ""]),
    "date": (["'0001-01-01'", "'9999-12-31'"], ["0001-01-01", "9999-12-31"]),
    "time": (["'23:59:59.999999'"], ["23:59:59.999999"]),
    "timetz": (["'12:30:00+02'"], ["12:30:00+02"]),
    "timestamp": (["'2024-02-29 12:30:45.123456'"], ["2024-02-29T12:30:45.123456"]),
    "timestamptz": (["'2024-02-29 12:30:45.123456+02'"], ["2024-02-29T10:30:45.123456Z"]),
    "interval": (["'1 mon 3 days 04:05:06.789'", "'-1 year'"], ["P1M3DT14706.789S", "P-12M"]),
    "uuid": (["'123e4567-e89b-12d3-a456-426614174000'"], ["123e4567-e89b-12d3-a456-426614174000"]),
    "json": (['\'{"b": 1.50, "a": [1, null]}\''], ['{"b": 1.50, "a": [1, null]}']),
    "jsonb": (["'{\"b\": 1.50}'"], ['{"b": 1.50}']),
    "integer[]": (["'{1,NULL,3}'", "'{}'"], ["[1,null,3]", "[]"]),
    "text[]": (['\'{"a,b",NULL,""}\''], ['["a,b",null,""]']),
    "bit(4)": (["B'1010'"], ["1010"]),
    "inet": (["'192.168.0.1/24'"], ["192.168.0.1/24"]),
    "mood": (["'glad'"], ["glad"]),
}
MYSQL: dict[str, Cells] = {
    "tinyint": (["-128", "127"], ["-128", "127"]),
    "smallint": (["-32768"], ["-32768"]),
    "int": (["-2147483648"], ["-2147483648"]),
    "bigint": (["-9223372036854775808"], ["-9223372036854775808"]),
    "bigint unsigned": (["18446744073709551615"], ["18446744073709551615"]),
    "decimal(12,2)": (["-9999999999.99", "0.1"], ["-9999999999.99", "0.10"]),
    "decimal(38,10)": ([WIDE], [WIDE]),
    "decimal(65,30)": (["12345678901234567890123456789012345.000000000000000000000000000001"],) * 2,
    "float": (["1.5"], ["1.5"]),
    "double": (["0.1", "1e300"], ["0.1", "1e+300"]),
    "text": (["'日本語 😀'", "''"], ["日本語 😀", ""]),
    "varchar(20)": (["'ab '"], ["ab "]),
    "blob": (["x'00ff'"], ["00ff"]),
    "date": (["'1000-01-01'", "'9999-12-31'"], ["1000-01-01", "9999-12-31"]),
    "time(6)": (["'23:59:59.999999'"], ["23:59:59.999999"]),
    "datetime(6)": (["'2024-02-29 12:30:45.123456'"], ["2024-02-29T12:30:45.123456"]),
    "timestamp(6)": (["'2024-02-29 12:30:45.123456'"], ["2024-02-29T12:30:45.123456Z"]),
    "year": (["2024"], ["2024"]),
    "enum('sad','glad')": (["'glad'"], ["glad"]),
    "bit(4)": (["b'1010'"], ["1010"]),
}
SQLITE: dict[str, Cells] = {
    "INTEGER": (["-9223372036854775808", "9223372036854775807"],) * 2,
    "REAL": (["0.1", "1e300", "-9e999"], ["0.1", "1e+300", "-inf"]),
    "DECIMAL(12,2)": (["-9999999999.99", "0.1", "7"], ["-9999999999.99", "0.10", "7.00"]),
    "BOOLEAN": (["1", "0"], ["true", "false"]),
    "TEXT": (["'日本語 😀'", "''", "'007'"], ["日本語 😀", "", "007"]),
    "BLOB": (["x'00ff'", "x''"], ["00ff", ""]),
    "DATE": (["'0001-01-01'", "'9999-12-31'"], ["0001-01-01", "9999-12-31"]),
    "TIME": (["'23:59:59.999999'"], ["23:59:59.999999"]),
    "TIMESTAMP": (["'2024-02-29 12:30:45.123456'", "'2024-02-29T12:30:45'"],
                  ["2024-02-29T12:30:45.123456", "2024-02-29T12:30:45.000000"]),
}  # fmt: skip
DUCKDB: dict[str, Cells] = {
    "TINYINT": (["-128"], ["-128"]),
    "BIGINT": (["-9223372036854775808"], ["-9223372036854775808"]),
    "UBIGINT": (["18446744073709551615"], ["18446744073709551615"]),
    "HUGEINT": (["170141183460469231731687303715884105727"],) * 2,
    "DECIMAL(38,10)": ([WIDE], [WIDE]),
    "DOUBLE": (["0.1", "'nan'", "'-inf'"], ["0.1", "nan", "-inf"]),
    "BOOLEAN": (["true", "false"], ["true", "false"]),
    "VARCHAR": (["'日本語 😀'"], ["日本語 😀"]),
    "BLOB": (["'\\x00\\xFF'::BLOB"], ["00ff"]),
    "DATE": (["'0001-01-01'"], ["0001-01-01"]),
    "TIME": (["'23:59:59.999999'"], ["23:59:59.999999"]),
    "TIMESTAMP": (["'2024-02-29 12:30:45.123456'"], ["2024-02-29T12:30:45.123456"]),
    "TIMESTAMPTZ": (["'2024-02-29 12:30:45.123456+02'"], ["2024-02-29T10:30:45.123456Z"]),
    "INTERVAL": (["INTERVAL '1 month 3 days'"], ["P1M3D"]),
    "UUID": (["'123e4567-e89b-12d3-a456-426614174000'"], ["123e4567-e89b-12d3-a456-426614174000"]),
    "JSON": (["'{\"b\": 1.50}'"], ['{"b": 1.50}']),
    "INTEGER[]": (["[1, NULL, 3]"], ["[1,null,3]"]),
    "BIT": (["'1010'::BIT"], ["1010"]),
}


@dataclass(frozen=True)
class Reader:
    """One reader of the matrix: its types, and how a table of one column gets its rows."""

    protocol: str
    types: dict[str, Cells]
    connection: Callable[[pytest.FixtureRequest, Path], dict[str, object]]
    execute: Callable[[dict[str, object], list[str]], None]


def on_postgres(config: dict[str, object], statements: list[str]) -> None:
    with psycopg.connect(
        host=str(config["host"]), port=config["port"], dbname=str(config["database"]),
        user=str(config["username"]), password=str(config["password"]),
    ) as connection:  # fmt: skip
        if not connection.execute("SELECT FROM pg_type WHERE typname = 'mood'").fetchall():
            connection.execute(b"CREATE TYPE mood AS ENUM ('sad', 'glad')")
        for statement in statements:
            connection.execute(statement.encode())


def on_mysql(config: dict[str, object], statements: list[str]) -> None:
    connection = pymysql.connect(
        host=str(config["host"]), port=int(str(config["port"])), user=str(config["username"]),
        password=str(config["password"]), database=str(config["database"]), charset="utf8mb4",
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', SESSION sql_mode = 'ALLOW_INVALID_DATES'")
        for statement in statements:
            cursor.execute(statement)
        connection.commit()


def on_sqlite(config: dict[str, object], statements: list[str]) -> None:
    connection = sqlite3.connect(str(config["database_path"]))
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def on_duckdb(config: dict[str, object], statements: list[str]) -> None:
    with duckdb.connect(str(config["path"])) as connection:
        for statement in statements:
            connection.execute(statement)


READERS = (
    Reader("postgresql", POSTGRES, server("postgres"), on_postgres),
    Reader("mysql", MYSQL, server("mysql"), on_mysql),
    Reader("sqlite", SQLITE, lambda _, folder: {"database_path": str(folder / "source.db")}, on_sqlite),
    Reader("duckdb", DUCKDB, lambda _, folder: {"path": str(folder / "source.duckdb")}, on_duckdb),
)
WRITERS = tuple(case for case in DESTINATIONS if case.protocol in ("duckdb", "postgresql", "parquet"))


class Matrix:
    """One reader and one destination, moving tables `id, v`."""

    def __init__(self, reader: Reader, request: pytest.FixtureRequest, folder: Path, writer: object) -> None:
        self.reader = reader
        self.config = reader.connection(request, folder)
        self.case = writer
        self.destination = writer.open(request, folder)
        adapter = registry.load(reader.protocol)
        assert adapter.connector is not None
        self.connector = adapter.connector(adapter.connection.model_validate(self.config))

    def create(self, tables: dict[str, tuple[str, Sequence[str]]]) -> None:
        statements: list[str] = []
        for table, (kind, literals) in tables.items():
            statements.append(f"CREATE TABLE {table} (id INTEGER NOT NULL PRIMARY KEY, v {kind} NULL)")
            statements += [
                f"INSERT INTO {table} VALUES ({number}, {literal})"
                for number, literal in enumerate([*literals, "NULL"])
            ]
        self.reader.execute(self.config, statements)

    def create_wide(self, table: str, columns: dict[str, Sequence[str]]) -> None:
        """One table with a column of each type; its last row is all NULL."""
        count = max(map(len, columns.values())) + 1
        statements = [
            f"CREATE TABLE {table} (id INTEGER NOT NULL PRIMARY KEY, "
            + ", ".join(f"c{number} {kind} NULL" for number, kind in enumerate(columns))
            + ")"
        ]
        for row in range(count):
            cells = [literals[row] if row < len(literals) else "NULL" for literals in columns.values()]
            statements.append(f"INSERT INTO {table} VALUES ({row}, {', '.join(cells)})")
        self.reader.execute(self.config, statements)

    def move(self, table: str, name: str | None = None, **more: object) -> list[str | None]:
        stream = Stream(name or table, table=table, **more)
        for _ in transfer(self.connector, self.destination, Job("run", "golden", stream, datetime.now(UTC))):
            pass
        quoted = self.case.quoted(self.destination.table_name("golden", stream))
        answer = self.destination.query(f"SELECT v FROM {quoted} ORDER BY id")
        return values.to_text(answer.column(0).combine_chunks()).to_pylist()


@pytest.fixture(params=READERS, ids=lambda reader: reader.protocol)
def reader(request: pytest.FixtureRequest) -> Reader:
    return request.param


@pytest.fixture(params=WRITERS, ids=lambda case: f"to-{case.name}")
def matrix(request: pytest.FixtureRequest, reader: Reader, tmp_path: Path) -> Iterator[Matrix]:
    made = Matrix(reader, request, tmp_path, request.param)
    yield made
    made.connector.close()
    made.destination.close()


def test_every_type_arrives_exactly(matrix: Matrix) -> None:
    names = {f"t{number}": kind for number, kind in enumerate(matrix.reader.types)}
    matrix.create({table: (kind, matrix.reader.types[kind][0]) for table, kind in names.items()})
    found = {kind: matrix.move(table) for table, kind in names.items()}
    assert found == {kind: [*texts, None] for kind, (_, texts) in matrix.reader.types.items()}


@pytest.mark.parametrize("writer", DESTINATIONS, ids=lambda case: f"to-{case.name}")
def test_a_copy_of_every_type_equals_its_source(
    request: pytest.FixtureRequest, reader: Reader, tmp_path: Path, writer: DestinationCase
) -> None:
    doubles = "double precision" if reader.protocol == "postgresql" else "double"
    types = {**reader.types, f"{doubles} ": (["-0e0", "1e-320", "0.1"], [])}
    odd = ("nan", "inf", "9e999") if writer.protocol in ("mysql", "mssql") else ()
    cells = {
        kind: [
            text
            for text in literals
            if not any(word in text.lower() for word in odd)
            and (writer.keeps_empty or text not in ("''", "x''"))
        ]
        for kind, (literals, _) in types.items()
    }
    matrix = Matrix(reader, request, tmp_path, writer)
    matrix.create_wide("every_type", cells)
    stream = Stream("every_type", table="every_type")
    with closing(matrix.connector), closing(matrix.destination):
        for _ in transfer(
            matrix.connector, matrix.destination, Job("run", "shop", stream, datetime.now(UTC))
        ):
            pass
        *_, last = verify(matrix.connector, matrix.destination, VerifyJob("shop", stream))
    assert isinstance(last, StreamVerified)
    assert last.comparison.is_equal, last.comparison
    assert last.comparison.source_rows == max(map(len, cells.values())) + 1


@pytest.mark.parametrize("protocol", ["postgresql", "mysql", "duckdb"])
def test_databases_of_one_kind_compare_by_themselves(
    request: pytest.FixtureRequest, tmp_path: Path, protocol: str
) -> None:
    (reader,) = (reader for reader in READERS if reader.protocol == protocol)
    (writer,) = (case for case in DESTINATIONS if case.protocol == protocol)
    alone = ("[]", "float", "double", "bit(")  # some system has no exact text of them
    types = {kind: cells[0] for kind, cells in reader.types.items() if not any(odd in kind for odd in alone)}
    matrix = Matrix(reader, request, tmp_path, writer)
    matrix.create_wide("wide", types)
    stream = Stream("wide", table="wide")
    rows = max(map(len, types.values())) + 1
    with closing(matrix.connector) as source, closing(matrix.destination) as target:

        def count_equal() -> int | None:
            with source.open(ReadRequest(stream)) as extract:
                sides = sides_of("shop", stream, target, extract)
                with sides.stored(target) as stored:
                    return stored.count_equal()

        for _ in transfer(source, target, Job("run", "shop", stream, datetime.now(UTC))):
            pass
        assert count_equal() == rows
        for number, kind in enumerate(types):
            matrix.reader.execute(matrix.config, [f"UPDATE wide SET c{number} = NULL WHERE id = 0"])
            assert count_equal() is None, kind
            value = types[kind][0]
            matrix.reader.execute(matrix.config, [f"UPDATE wide SET c{number} = {value} WHERE id = 0"])
            assert count_equal() == rows, kind
        matrix.reader.execute(matrix.config, ["DELETE FROM wide WHERE id = 0"])
        assert count_equal() is None


HAZARDS = {
    "postgresql": {
        ("timestamptz", "'infinity'"): (Hazard.INFINITY, "infinity"),
        ("timestamp", "'-infinity'"): (Hazard.INFINITY, "-infinity"),
        ("date", "'infinity'"): (Hazard.INFINITY, "infinity"),
        ("date", "'12345-01-01'"): (Hazard.OUT_OF_RANGE, "12345-01-01"),
        ("timestamp", "'294276-12-31'"): (Hazard.OUT_OF_RANGE, "294276-12-31 00:00:00"),
        ("numeric(5,2)", "'NaN'"): (Hazard.DECIMAL_SPECIAL, "NaN"),
        ("time", "'24:00'"): (Hazard.TIME_RANGE, "24:00:00"),
        ("integer[]", "'{{1,2},{3,4}}'"): (Hazard.ARRAY_SHAPE, "{{1,2},{3,4}}"),
    },
    "mysql": {
        ("date", "'0000-00-00'"): (Hazard.ZERO_DATE, "0000-00-00"),
        ("date", "'2024-00-15'"): (Hazard.ZERO_DATE, "2024-00-15"),
        ("datetime", "'0000-00-00 00:00:00'"): (Hazard.ZERO_DATE, "0000-00-00 00:00:00"),
        ("time", "'-838:59:59'"): (Hazard.TIME_RANGE, "-838:59:59"),
    },
    "sqlite": {
        ("INTEGER", "'abc'"): (Hazard.TYPE_MISMATCH, "abc"),
        ("DECIMAL(10,2)", "0.125"): (Hazard.PRECISION, "0.125"),
    },
    "duckdb": {
        ("TIMESTAMP", "'infinity'"): (Hazard.INFINITY, "infinity"),
        ("DATE", "'12345-01-01'"): (Hazard.OUT_OF_RANGE, "12345-01-01"),
    },
}


def test_what_has_no_exact_form_is_refused_nulled_or_text(matrix: Matrix) -> None:
    cases = HAZARDS[matrix.reader.protocol]
    matrix.create({f"h{number}": (kind, [literal]) for number, (kind, literal) in enumerate(cases)})
    for number, (hazard, text) in enumerate(cases.values()):
        table = f"h{number}"
        with pytest.raises(HazardError) as caught:
            matrix.move(table)
        assert (caught.value.column, caught.value.stream, caught.value.exit_code) == ("v", table, 7)
        assert "id=0" in caught.value.message
        assert matrix.move(table, hazards={hazard: HazardPolicy.NULL}) == [None, None]
        as_text = matrix.move(table, f"{table}_text", hazards={hazard: HazardPolicy.TEXT})
        assert as_text == [text, None]
