"""Numbers of any digits: `numeric` from PostgreSQL to PostgreSQL, and what became of them before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.sql._pgcopy.digits import encode_digits
from atlas_etl.connectors.sql._pgcopy.text import text_form
from atlas_etl.connectors.sql._pgcopy.types import PgType, UnrepresentableError, Wire
from atlas_etl.errors import DataError
from atlas_etl.model import Disposition, Stream, StreamRun, TableName
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer
from atlas_etl.pipeline.verify import StreamVerified, VerifyJob, verify
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database

UNLIMITED = values.UNLIMITED_DECIMAL
NUMBERS = (
    "1.0", "1.00", "0", "0.000", "-0.10", "1e400", "-1e400", "1e-400", "9999", "10000", "0.0001", "0.00001",
    "NaN", "Infinity", "-Infinity", "9" * 48 + "." + "9" * 48, "1" * 49, "1e-16383", "1.23456789e131000",
)  # fmt: skip


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


def sync(database: Database, *, full_refresh: bool = False, **more: object) -> StreamRun:
    job = Job("run", "shop", of_orders(**more), datetime.now(UTC), full_refresh=full_refresh)
    *_, last = transfer(database.connector(), database.destination(), job)
    assert isinstance(last, StreamFinished)
    return last.outcome


def of_orders(**more: object) -> Stream:
    return Stream("orders", **{"table": "public.orders", "disposition": Disposition.REPLACE, **more})


def column(database: Database) -> object:
    ((found,),) = database.rows(
        "SELECT data_type FROM information_schema.columns "
        "WHERE table_schema = 'shop' AND table_name = 'orders' AND column_name = 'amount'"
    )
    return found


def rows(database: Database, table: str) -> Sequence[object]:
    return database.rows(f"SELECT id, amount::text FROM {table} ORDER BY 1, 2")


def assert_equal(database: Database, **more: object) -> None:
    assert rows(database, "shop.orders") == rows(database, "public.orders")
    assert is_equal(database, **more)


def is_equal(database: Database, **more: object) -> bool:
    *_, last = verify(database.connector(), database.destination(), VerifyJob("shop", of_orders(**more)))
    assert isinstance(last, StreamVerified)
    return last.comparison.is_equal


def make(database: Database, numbers: Sequence[str] = NUMBERS, key: str = "int PRIMARY KEY") -> None:
    database.execute(f"CREATE TABLE orders (id {key}, amount numeric)")
    insert(database, numbers)


def insert(database: Database, numbers: Sequence[str], first: int = 1) -> None:
    cells = ", ".join(f"({id_}, '{number}')" for id_, number in enumerate(numbers, first))
    database.execute(f"INSERT INTO orders VALUES {cells}")


@pytest.mark.parametrize("more", [{}, {"metadata_columns": True}], ids=["passed on", "decoded"])
def test_every_number_arrives_as_it_was(database: Database, more: dict[str, object]) -> None:
    make(database)
    for _ in range(2):
        assert sync(database, **more).rows_loaded == len(NUMBERS)
        assert column(database) == "numeric"
        assert_equal(database, **more)
    database.execute("UPDATE orders SET amount = 1.000 WHERE id = 1")
    assert not is_equal(database, **more)  # the table keeps a number's scale, so it is compared


@pytest.mark.parametrize("key", ["int PRIMARY KEY", "text PRIMARY KEY"])
def test_a_merge_by_a_cursor_of_any_digits(database: Database, key: str) -> None:
    make(database, ["-1", "9", "9.50", "10"], key)
    merge = {"disposition": Disposition.MERGE, "cursor": "amount"}
    assert sync(database, **merge).rows_loaded == 4
    insert(database, ["100", "1e40", "1e40"], first=5)
    database.execute("UPDATE orders SET amount = 10.00 WHERE amount = 10")  # which moves no cursor
    assert sync(database, **merge).rows_loaded == 3
    assert column(database) == "numeric"
    assert_equal(database, **merge)


def test_of_several_rows_of_a_key_the_greatest_number_counts(database: Database) -> None:
    """As texts, `9` comes after `10`."""
    database.execute("CREATE TABLE orders (id int, amount numeric)")
    database.execute("INSERT INTO orders VALUES (1, 10), (1, 9), (2, 'NaN'), (2, 'Infinity')")
    sync(database, disposition=Disposition.MERGE, cursor="amount", primary_key=("id",))
    assert rows(database, "shop.orders") == [(1, "10"), (2, "NaN")]


def test_an_append_by_a_cursor_of_any_digits(database: Database) -> None:
    make(database, ["-1", "9", "9.0", "9.00"])
    append = {"disposition": Disposition.APPEND, "cursor": "amount"}
    for numbers in (["9.000", "9.5"], ["10", "1e40"], ["1e40", "1e40"], []):
        sync(database, **append)
        assert_equal(database, **append)
        if numbers:
            ((last,),) = database.rows("SELECT max(id) FROM orders")
            insert(database, numbers, first=int(str(last)) + 1)
    assert column(database) == "numeric"


@pytest.mark.parametrize("disposition", Disposition)
def test_a_column_that_was_text_goes_on_as_text_until_a_full_refresh(
    database: Database, disposition: Disposition
) -> None:
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, amount text)")
    insert(database, ["1.0", "1.00", "9", "10"])
    more: dict[str, object] = {"disposition": disposition, "cursor": "id"}
    sync(database, **more)
    database.execute("ALTER TABLE orders ALTER amount TYPE numeric USING amount::numeric")
    insert(database, ["1e70", "NaN"], first=5)
    sync(database, **more)
    assert column(database) == "text"
    assert_equal(database, **more)
    sync(database, full_refresh=True, **more)
    assert column(database) == "numeric"
    assert_equal(database, **more)


def test_a_source_s_column_that_becomes_text_is_text_after_a_full_refresh(database: Database) -> None:
    make(database, ["1.50"])
    sync(database)
    database.execute("ALTER TABLE orders ALTER amount TYPE text", "INSERT INTO orders VALUES (2, '2.0')")
    sync(database)
    assert column(database) == "numeric"
    assert_equal(database)
    insert(database, ["x"], first=3)
    with pytest.raises(DataError, match="numeric"):
        sync(database)
    sync(database, full_refresh=True)
    assert column(database) == "text"
    assert_equal(database)


def test_a_bounded_number_that_becomes_an_unlimited_one(database: Database) -> None:
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, amount numeric(12,2))")
    insert(database, ["1.50"])
    sync(database)
    database.execute("ALTER TABLE orders ALTER amount TYPE numeric")
    insert(database, ["1.234567"], first=2)
    sync(database)
    assert column(database) == "numeric"
    assert_equal(database)


def test_rows_that_the_table_refuses_are_kept_with_their_digits(database: Database) -> None:
    make(database, ["1.0", "-1e50", "2.00"])
    more: dict[str, object] = {"quarantine_limit": 1, "primary_key": ("id",)}
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id int PRIMARY KEY, amount numeric CHECK (amount > 0))",
    )
    assert sync(database, **more).rows_quarantined == 1
    assert rows(database, "shop.orders") == [(1, "1.0"), (3, "2.00")]
    state = database.destination().inspect("shop", "orders", TableName("orders", "shop"))
    assert [kept.row["amount"] for kept in state.quarantine] == ["-1" + "0" * 50]


SIGNED = st.builds(
    "{}{}".format, st.sampled_from(["", "-"]), st.from_regex(r"[0-9]{1,60}(\.[0-9]{1,60})?", fullmatch=True)
)


SPECIAL = st.sampled_from(["NaN", "Infinity", "-Infinity"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | SIGNED | SPECIAL, min_size=1, max_size=8))
def test_random_numbers_are_encoded_as_postgresql_has_them(texts: list[str | None]) -> None:
    """As the decoder reads them, which is compared with the server's own words elsewhere."""
    encoded = encode_digits(pa.array([None, *texts, None], pa.string()).slice(1, len(texts)), None)
    numeric = PgType(Wire.NUMERIC, 1700)
    found = [text_form(numeric, payload) if payload is not None else None for payload in encoded.to_pylist()]
    assert found == [as_written(text) if text is not None else None for text in texts]


def as_written(text: str) -> str:
    """Without zeros in front."""
    whole, point, fraction = text.removeprefix("-").partition(".")
    return ("-" if text.startswith("-") else "") + (whole.lstrip("0") or "0") + point + fraction


@pytest.mark.parametrize(
    "text", ["", "-", ".5", "5.", "1e5", "+1", " 1", "1_0", "nan", "--1", "1.2.3", "\u0661"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    for others in (["1"], ["NaN"]):
        with pytest.raises(UnrepresentableError) as caught:
            encode_digits(pa.array([*others, text]), None)
        assert caught.value.rows == (1,)


def test_digits_that_a_column_would_round_are_refused() -> None:
    with pytest.raises(UnrepresentableError) as caught:
        encode_digits(pa.array(["1.200", None, "1.204"]), 2)
    assert caught.value.rows == (2,)
