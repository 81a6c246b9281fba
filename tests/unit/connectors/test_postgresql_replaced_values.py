"""Values that the columns of somebody's own table would round or cut: they are refused, however they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from atlas_etl.errors import RefusedRowError
from atlas_etl.model import Disposition, Stream, TableName
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database
from tests.unit.connectors.test_postgresql_passing import sync

COLUMNS = {  # what comes, the column of the table, what is kept, what is not
    "timestamp": ("timestamp", "timestamp(0)", "'2024-01-01 00:00:07'", "'2024-01-01 00:00:07.5'"),
    "before 1970": ("timestamp", "timestamp(3)", "'0001-01-01 00:00:07.123'", "'0001-01-01 00:00:07.1234'"),
    "instant": ("timestamptz", "timestamptz(1)", "'2024-01-01 00:00:07.1+02'", "'2024-01-01 00:00:07.12+02'"),
    "time": ("time", "time(0)", "'23:59:59'", "'23:59:59.999999'"),
    "interval": ("interval", "interval(1)", "'1 mon -3 days 1.5 s'", "'1 mon -3 days 1.55 s'"),
    "text": ("text", "varchar(3)", "'äöü'", "'abc  '"),
    "longer": ("varchar(9)", "varchar(3)", "'a  '", "'a   '"),
    "whole days": ("interval", "interval day", "'1 mon -3 days'", "'-3 days 5 hours'"),
    "whole years": ("interval", "interval year", "'-24 mons'", "'14 mons'"),
    "months": ("interval", "interval year to month", "'14 mons'", "'14 mons 1 day'"),
    "hours": ("interval", "interval day to hour", "'1 day -5:00'", "'1 day 5:06'"),
    "minutes": ("interval", "interval minute", "'1 day 5:06'", "'5:06:07'"),
    "seconds": ("interval", "interval second(1)", "'5:06:07.8'", "'5:06:07.89'"),
    "a domain": ("interval", "days", "'3 days'", "'3 days 5 hours'"),
    "timestamps": (
        "timestamp[]",
        "timestamp(0)[]",
        "'{2024-01-01 00:00:07,NULL}'",
        "'{NULL,2024-01-01 00:00:07.5}'",
    ),
    "times": ("time[]", "time(0)[]", "'{}'", "'{23:59:59.9}'"),
    "intervals": ("interval[]", "interval day[]", "'{1 day}'", "'{1 day,5 hours}'"),
    "texts": ("text[]", "varchar(3)[]", "'{abc}'", """'{"abc  "}'"""),
    "longer ones": ("varchar(9)[]", "varchar(3)[]", """'{"a  "}'""", """'{"a   "}'"""),
    "blanks": ("text", "char(3)", "'abc'", "'a '"),
    "blanks of both": ("char(9)", "char(3)", "'abc'", "'abcd'"),
    "money": ("text", "money", "'$1,234.50'", "'0.005'"),
    "less": ("text", "money", "'-$0.40'", "'-1.239'"),
    "bits": ("bit varying", "bit(3)", "'101'", "'10'"),
    "more bits": ("bit varying", "bit varying(3)", "'10'", "'1011'"),
    "with a zone": ("timetz", "timetz(0)", "'23:59:59+02'", "'23:59:58.6+02'"),
    "moneys": ("text[]", "money[]", "'{$1.50,NULL,$2.00}'", "'{1.5,0.005}'"),
    "arrays of bits": ("varbit[]", "bit(3)[]", "'{101,NULL}'", "'{101,1011}'"),
    "with zones": ("timetz[]", "timetz(0)[]", "'{23:59:59+02}'", "'{23:59:58.6+02}'"),
}
ARRAYS = {  # whose elements have no binary form here
    "inet[]": "'{192.168.0.1/24,::1,NULL}'",
    "cidr[]": "'{10.0.0.0/8}'",
    "macaddr[]": "'{08:00:2b:01:02:03}'",
    "bit(3)[]": "'{101,010}'",
    "varbit[]": "'{}'",
    "timetz[]": "'{12:00:00.5+02}'",
    "money[]": "'{$1.50}'",
    "point[]": """'{"(1,2)"}'""",
    "tsrange[]": """'{"[2024-01-01,2024-02-01)"}'""",
    "tsvector[]": "array['a b'::tsvector]",
    "pair[]": r"""array[ROW(1, 'a "b", \c')::pair, NULL]""",
    "few[]": "'{1,NULL,2}'",
    "code[]": """'{"a b",c}'""",
}


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


@pytest.mark.parametrize("added", [False, True], ids=["the same columns", "a column more"])
@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_kept_is_what_came(
    database: Database, name: str, disposition: Disposition, added: bool
) -> None:
    came, declared, kept, refused = COLUMNS[name]
    database.execute(
        "CREATE SCHEMA mine",
        "CREATE DOMAIN days AS interval day",
        f"CREATE TABLE s (n int PRIMARY KEY, v {came}{', more int' if added else ''})",
        f"CREATE TABLE mine.t (n int PRIMARY KEY, v {declared})",
        f"INSERT INTO s (n, v) VALUES (1, {kept}), (2, NULL)",
    )
    where = {"disposition": disposition, "into": TableName("t", "mine")}
    assert sync(database, "s", **where).rows_loaded == 2
    assert database.rows("SELECT n, v::text FROM mine.t ORDER BY n") == database.rows(
        "SELECT n, v::text FROM s ORDER BY n"
    )
    database.execute(f"INSERT INTO s (n, v) VALUES (3, {refused})")
    with pytest.raises(RefusedRowError) as caught:
        sync(database, "s", **where)
    assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "v")
    assert database.rows("SELECT count(*) FROM mine.t") == [(2,)]


@pytest.mark.parametrize("native", ARRAYS)
def test_arrays_whose_elements_come_as_text(database: Database, native: str) -> None:
    database.execute(
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN few AS int CHECK (value < 9)",
        "CREATE DOMAIN code AS varchar(5)",
        "CREATE SCHEMA mine",
        f"CREATE TABLE s (n int PRIMARY KEY, v {native})",
        f"CREATE TABLE mine.t (n int PRIMARY KEY, v {native})",
        f"INSERT INTO s VALUES (1, {ARRAYS[native]}), (2, NULL)",
    )
    sync(database, "s", disposition=Disposition.MERGE, into=TableName("t", "mine"))
    assert database.rows("SELECT n, v::text FROM mine.t ORDER BY n") == database.rows(
        "SELECT n, v::text FROM s ORDER BY n"
    )


@pytest.fixture
def latin(database: Database) -> Iterator[Database]:
    """A database in LATIN1 beside the other."""
    address = replace(database.address, database=f"{database.address.database}_latin")
    database.execute(f"CREATE DATABASE {address.database} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    found = Database(address)
    yield found
    found.close()
    database.execute(f"DROP DATABASE {address.database} WITH (FORCE)")


def test_letters_that_a_database_does_not_have(database: Database, latin: Database) -> None:
    database.execute("CREATE TABLE t (n int, v text)", "INSERT INTO t VALUES (1, 'é')")
    stream = Stream("t", table="public.t", disposition=Disposition.APPEND)

    def load() -> None:
        list(
            transfer(database.connector(), latin.destination(), Job("run", "shop", stream, datetime.now(UTC)))
        )

    load()
    assert latin.rows("SELECT n, v FROM shop.t") == [(1, "é")]
    database.execute("INSERT INTO t VALUES (2, 'Ω')")
    with pytest.raises(RefusedRowError, match="letters that the database's encoding") as caught:
        load()
    assert "0xce" not in str(caught.value)
