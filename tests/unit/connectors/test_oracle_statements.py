"""The SQL that a load into Oracle sends, word for word: no engine is here that could refuse it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import oracledb
import pyarrow as pa
import pytest
from msgspec.structs import replace
from oracledb import errors

from atlas_etl.connectors.sql._dialect import NoneLeftOut
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._oracle.dialect import OracleWriterDialect
from atlas_etl.connectors.sql._oracle.errors import meant
from atlas_etl.connectors.sql._oracle.rows import insert, refuse_empty, without_empty
from atlas_etl.connectors.sql._oracle.stored import KeptColumn, declaration, grows, holds_key, stored_type
from atlas_etl.connectors.sql._oracle.target import Target
from atlas_etl.connectors.sql._placed import placed
from atlas_etl.connectors.sql._reconcile import SqlReconcileSession
from atlas_etl.connectors.sql._trial import SavepointTrial
from atlas_etl.errors import DestinationError, RefusedRowError, SourceError
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    Deletes,
    Disposition,
    LoadPlan,
    ReconcilePlan,
    TableName,
    WidenColumn,
)

TABLE = TableName("or'ders", "ETL")
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("seen", pa.timestamp("us", "UTC"))])
ID = KeptColumn("id", "NUMBER", 22, None, 19, 0, None, False, False)
NAME = KeptColumn("name", "CLOB", 4000, None, None, None, "USING_NLS_COMP", True, False)
SEEN = KeptColumn("seen", "TIMESTAMP(6) WITH TIME ZONE", 13, None, None, 6, None, True, False)
GONE = KeptColumn("gone", "VARCHAR2", 80, 20, None, None, "USING_NLS_COMP", True, False)
COUNTED = KeptColumn("counted", "NUMBER", 22, None, 9, 0, None, True, True)
STAGE = '"ORA$PTT__atlas_stage"'
INSTANT = "FROM_TZ(TO_TIMESTAMP({}, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6'), '+00:00')"


class Listener(NoneLeftOut):
    """A connection that keeps what it is told; every count is 1."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        self.said.append(placed(sql, lambda number: repr(parameters[number - 1])))
        if "count(*)" in sql:
            return [(1,)]
        if "max(CASE" in sql:
            return [(None,) * 6]
        line = ("shop", "orders", TABLE.name, "7", "run-1", *([None] * 10))
        return [line] if '"writer", ' in sql and sql.startswith("SELECT") else []

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        bound = insert(table, batch)
        self.said.append(f"{bound.sql} {bound.rows}")

    def begin(self) -> None: ...

    def commit(self) -> None:
        self.said.append("COMMIT")

    def rollback(self) -> None: ...


def plan(disposition: Disposition, **more: object) -> LoadPlan:
    settings: dict[str, object] = {"primary_key": ("id",), "cursor": "seen", **more}
    return LoadPlan("run-1", "shop", "orders", TABLE, disposition, SCHEMA, **settings)


def rows(*cells: tuple[object, ...]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in cells], SCHEMA)


def test_an_append_deletes_its_tail_and_inserts() -> None:
    tail = CursorValue(CursorKind.TIMESTAMPTZ, "2026-01-01T00:02:00.000000Z")
    connection = Listener()
    with_tail = plan(
        Disposition.APPEND, tail=Checkpoint("seen", tail, tail), primary_key=(), tail_has_nulls=True
    )
    session = SqlLoadSession(OracleWriterDialect([ID, NAME, SEEN]), connection, with_tail)
    session.write(rows((1, "it's", datetime(2026, 1, 2, tzinfo=UTC)), (2, None, None)))
    where = f'"seen" >= {INSTANT.format(repr("2026-01-01T00:02:00.000000"))} OR "seen" IS NULL'
    counted, deleted, looked, inserted = connection.said
    assert looked.startswith('SELECT max("committed_at"), max(CASE')
    assert [counted, deleted, inserted] == [
        f'SELECT count(*) FROM "ETL"."or\'ders" WHERE {where}',
        f'DELETE FROM "ETL"."or\'ders" WHERE {where}',
        'INSERT INTO "ETL"."or\'ders" ("id", "name", "seen") '
        f"VALUES (TO_NUMBER(:1), :2, {INSTANT.format(':3')}) "
        "[('1', \"it's\", '2026-01-02T00:00:00.000000'), ('2', None, None)]",
    ]


def test_a_replace_empties_the_table_in_the_loads_own_transaction() -> None:
    connection = Listener()
    SqlLoadSession(OracleWriterDialect(), connection, plan(Disposition.REPLACE))
    emptied, looked = connection.said
    assert emptied == 'DELETE FROM "ETL"."or\'ders"'
    assert looked.startswith('SELECT max("committed_at"), max(CASE')


def test_stages_are_made_before_anything_is_deleted() -> None:
    connection = Listener()
    SqlLoadSession(
        OracleWriterDialect([ID]), connection, plan(Disposition.REPLACE, by_key=True, deletes=True)
    )
    assert [said.partition(" (")[0] for said in connection.said[:-1]] == [
        f"CREATE PRIVATE TEMPORARY TABLE {STAGE}",
        'CREATE PRIVATE TEMPORARY TABLE "ORA$PTT__atlas_gone"',
        'DELETE FROM "ETL"."or\'ders"',
    ]


LINE = (
    '"connector", "stream", CASE WHEN "table_name" = "or\'ders" THEN "table_name" END, '
    '"version", "writer", "cursor_column", "cursor_kind", "high", '
    '"tail_from", "tail_values", "watermarks", "parents", "protection", "run_id", "committed_at"'
)
OF_STREAM = "WHERE \"connector\" = 'shop' AND \"stream\" = 'orders'"


def test_a_merge_keeps_rows_where_they_are() -> None:
    connection = Listener()
    kept = OracleWriterDialect([ID, NAME, SEEN, GONE, COUNTED], keyed=True)
    session = SqlLoadSession(kept, connection, plan(Disposition.MERGE))
    session.write(rows((1, "x", None)))
    session.commit(None)
    assert connection.said[:-3] == [
        f'CREATE PRIVATE TEMPORARY TABLE {STAGE} ("id" NUMBER(19,0), "name" CLOB, '
        '"seen" TIMESTAMP(6) WITH TIME ZONE, "_atlas_row" NUMBER(19,0)) ON COMMIT PRESERVE DEFINITION',
        f'INSERT INTO {STAGE} ("id", "name", "seen", "_atlas_row") VALUES (TO_NUMBER(:1), :2, '
        f"{INSTANT.format(':3')}, TO_NUMBER(:4)) [('1', 'x', None, '0')]",
        f'DELETE FROM {STAGE} WHERE "_atlas_row" IN (SELECT "_atlas_row" FROM (SELECT "_atlas_row", '
        'row_number() OVER (PARTITION BY "id" ORDER BY "seen" DESC NULLS LAST, "_atlas_row" DESC) '
        f'AS "_atlas_rank" FROM {STAGE}) ranked WHERE "_atlas_rank" > 1)',
        f"SELECT count(*) FROM {STAGE}",
        f'SELECT count(*) FROM {STAGE} staged WHERE EXISTS (SELECT 1 FROM "ETL"."or\'ders" there '
        'WHERE there."id" = staged."id" AND there."seen" = staged."seen")',
        f'MERGE INTO "ETL"."or\'ders" there USING {STAGE} staged ON (there."id" = staged."id") '
        'WHEN MATCHED THEN UPDATE SET there."name" = staged."name", there."seen" = staged."seen", '
        'there."gone" = DEFAULT WHEN NOT MATCHED THEN INSERT ("id", "name", "seen") '
        'VALUES (staged."id", staged."name", staged."seen")',
        f'SELECT {LINE} FROM "ETL"."_atlas_checkpoints" {OF_STREAM} FOR UPDATE WAIT 60',
    ]
    update, inserted, committed = connection.said[-3:]
    assert update == f'UPDATE "ETL"."_atlas_checkpoints" SET "version" = \'8\' {OF_STREAM}'
    assert inserted.startswith('INSERT INTO "ETL"."_atlas_loads" ("load_id", ')
    assert committed == "COMMIT"


def test_a_merge_by_a_key_that_is_not_unique_deletes_and_inserts() -> None:
    deleted, inserted = OracleWriterDialect([ID, NAME, SEEN]).merge(plan(Disposition.MERGE), STAGE)
    assert deleted == (
        f'DELETE FROM "ETL"."or\'ders" WHERE EXISTS (SELECT 1 FROM {STAGE} '
        f'WHERE {STAGE}."id" = "ETL"."or\'ders"."id")'
    )
    assert inserted == (
        f'INSERT INTO "ETL"."or\'ders" ("id", "name", "seen") SELECT "id", "name", "seen" FROM {STAGE}'
    )


def test_the_ledger_is_made_kept_and_locked() -> None:
    connection = Listener()
    ledger = Ledger(OracleWriterDialect(), "shop", "orders", TABLE)
    ledger.create(connection)
    ledger.begin(connection, "")
    ledger.loads.has_load(connection, "sha256:a")
    ledger.loads.other_stream(connection)
    short = "VARCHAR2(4000 BYTE)"
    made, _, _, begun, has, other = connection.said
    assert made.startswith(
        'BEGIN EXECUTE IMMEDIATE \'CREATE TABLE "ETL"."_atlas_checkpoints" ("connector" VARCHAR2(255 CHAR), '
        f'"stream" VARCHAR2(255 CHAR), "table_name" {short}, "version" CLOB, '
    )
    assert made.endswith(
        f'"run_id" CLOB, "committed_at" {short}, PRIMARY KEY ("connector", "stream"))\'; '
        "EXCEPTION WHEN OTHERS THEN IF SQLCODE <> -955 THEN RAISE; END IF; END;"
    )
    assert begun == (
        'MERGE INTO "ETL"."_atlas_checkpoints" there USING (SELECT \'shop\' AS "connector", '
        '\'orders\' AS "stream", "or\'ders" AS "table_name", \'0\' AS "version", \'\\\\\' AS "writer" '
        'FROM dual) given ON (there."connector" = given."connector" AND there."stream" = given."stream") '
        'WHEN MATCHED THEN UPDATE SET there."writer" = given."writer" WHEN NOT MATCHED THEN INSERT '
        '("connector", "stream", "table_name", "version", "writer") VALUES (given."connector", '
        'given."stream", given."table_name", given."version", given."writer")'
    )
    latest = 'SELECT max("committed_at") FROM "ETL"."_atlas_loads" '
    assert f"> COALESCE(({latest}{OF_STREAM}" in has
    assert has.endswith("'emptied'), '0') FETCH FIRST 1 ROWS ONLY")
    assert other.endswith("'emptied'), '0') AND ROWNUM <= 1 FOR UPDATE WAIT 60")
    assert "FETCH FIRST" not in other


def test_a_trial_undoes_what_was_refused() -> None:
    connection = Listener()
    trial = SavepointTrial(OracleWriterDialect([ID, NAME, SEEN]), connection, plan(Disposition.APPEND))
    assert trial.refusals(rows((1, "x", None))) == {}
    assert connection.said[:2] == ['SAVEPOINT "_atlas_batch"', 'SAVEPOINT "_atlas_part"']
    assert connection.said[-1] == 'ROLLBACK TO SAVEPOINT "_atlas_batch"'
    assert not any("RELEASE" in said for said in connection.said)


def test_rows_without_a_key_at_the_source_are_deleted() -> None:
    keys = pa.schema([("id", pa.int64())])
    comparison = ReconcilePlan(
        "run-1", "shop", "orders", TABLE, keys, Deletes(max_share=1), datetime(2026, 1, 1, tzinfo=UTC),
        has_marks=False, version=7,
    )  # fmt: skip
    connection = Listener()
    session = SqlReconcileSession(OracleWriterDialect([ID]), connection, comparison)
    session.write(pa.RecordBatch.from_pydict({"id": [1]}, keys))
    session.commit()
    assert (
        f'DELETE FROM "ETL"."or\'ders" WHERE NOT EXISTS (SELECT 1 FROM {STAGE} '
        f'WHERE {STAGE}."id" = "ETL"."or\'ders"."id")'
    ) in connection.said


def test_tables_are_made_and_changed() -> None:
    dialect = OracleWriterDialect(compared=("id", "code"))
    schema = pa.schema([("id", pa.int64()), ("code", pa.string()), ("note", pa.string())])
    assert dialect.create_table(TABLE, schema, ("id", "code")) == (
        'CREATE TABLE "ETL"."or\'ders" ("id" NUMBER(19,0), "code" VARCHAR2(4000 BYTE), "note" CLOB, '
        'PRIMARY KEY ("id", "code"))'
    )
    assert dialect.add_column(TABLE, pa.field("more", pa.binary())) == (
        'ALTER TABLE "ETL"."or\'ders" ADD ("more" BLOB)'
    )
    wider = WidenColumn("id", pa.int64(), pa.field("id", pa.decimal128(30, 2)))
    assert dialect.widen(TABLE, wider) == ('ALTER TABLE "ETL"."or\'ders" MODIFY ("id" NUMBER(30,2))',)
    with pytest.raises(DestinationError) as caught:
        dialect.widen(TABLE, WidenColumn("id", pa.int64(), pa.field("id", pa.string())))
    assert (caught.value.code, caught.value.column) == ("cannot_widen", "id")
    assert "--full-refresh" in str(caught.value.hint)


def test_which_keys_an_index_holds_and_which_numbers_grow() -> None:
    text, instant = pa.string(), pa.timestamp("us", "UTC")
    assert [
        holds_key(kinds) for kinds in ([pa.int64(), text], [text, text], [instant], [pa.int64()] * 33)
    ] == [
        True,
        False,
        False,
        False,
    ]
    assert grows(pa.decimal128(5, 2), pa.decimal128(12, 4))
    assert not grows(pa.decimal128(5, 2), pa.decimal128(6, 4))  # three digits before the point become two
    assert not grows(pa.float32(), pa.float64())


STORED: dict[pa.DataType, tuple[pa.DataType, str]] = {
    pa.bool_(): (pa.int64(), "NUMBER(19,0)"),
    pa.int8(): (pa.int64(), "NUMBER(19,0)"),
    pa.uint32(): (pa.int64(), "NUMBER(19,0)"),
    pa.uint64(): (pa.decimal128(20, 0), "NUMBER(20,0)"),
    pa.decimal128(19, 0): (pa.decimal128(20, 0), "NUMBER(20,0)"),
    pa.decimal128(12, 2): (pa.decimal128(12, 2), "NUMBER(12,2)"),
    pa.decimal256(60, 5): (pa.string(), "CLOB"),
    pa.float16(): (pa.float32(), "BINARY_FLOAT"),
    pa.float64(): (pa.float64(), "BINARY_DOUBLE"),
    pa.date32(): (pa.timestamp("us"), "TIMESTAMP(6)"),
    pa.time64("us"): (pa.string(), "CLOB"),
    pa.timestamp("ms"): (pa.timestamp("us"), "TIMESTAMP(6)"),
    pa.timestamp("ns", "UTC"): (pa.timestamp("ns", "UTC"), "TIMESTAMP(9) WITH TIME ZONE"),
    pa.large_binary(): (pa.binary(), "BLOB"),
    pa.uuid(): (pa.string(), "CLOB"),
    pa.json_(): (pa.string(), "CLOB"),
    pa.list_(pa.int32()): (pa.string(), "CLOB"),
    pa.dictionary(pa.int8(), pa.string()): (pa.string(), "CLOB"),
}


@pytest.mark.parametrize("kind", STORED, ids=str)
def test_each_type_is_kept_in_one_that_comes_back(kind: pa.DataType) -> None:
    stored = stored_type(kind)
    assert (stored, declaration(stored)) == STORED[kind]
    assert stored_type(stored) == stored


def test_columns_of_others_are_exact_or_refused() -> None:
    text = replace(GONE, name="name")
    assert [replace(text, kind=kind).is_exact for kind in ("VARCHAR2", "CLOB", "CHAR", "NCHAR", "LONG")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert not replace(text, collation="BINARY_CI").is_exact
    assert not replace(SEEN, kind="TIMESTAMP(3)").is_exact
    assert not replace(SEEN, kind="DATE").is_exact
    assert not replace(ID, precision=None, scale=None).is_exact
    assert replace(ID, precision=None, scale=0).type == pa.decimal128(38, 0)
    assert (text.declared, replace(text, characters=None).declared) == (
        "VARCHAR2(20 CHAR)",
        "VARCHAR2(80 BYTE)",
    )
    whole = Target(TABLE, (ID, NAME, SEEN), (frozenset({"id"}),), ())
    whole.refuse(plan(Disposition.MERGE))
    for wrong, code in (
        (replace(SEEN, kind="DATE"), "inexact_column"),
        (replace(NAME, name="seen"), "long_key"),
    ):
        with pytest.raises(DestinationError) as caught:
            replace(whole, columns=(ID, wrong)).refuse(plan(Disposition.MERGE))
        assert caught.value.code == code
    pointed_at = replace(whole, references=(("FK", "CASCADE"),))
    pointed_at.refuse(plan(Disposition.MERGE))
    with pytest.raises(DestinationError) as caught:
        pointed_at.refuse(plan(Disposition.REPLACE))
    assert caught.value.code == "referenced"


# Rows


def test_numbers_and_times_are_bound_as_texts_and_floats_as_their_bits() -> None:
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([Decimal("1.50"), None], pa.decimal128(30, 2)),
            pa.array([0.1, None], pa.float64()),
            pa.array([b"\x00", None], pa.binary()),
            pa.array([1, None], pa.timestamp("ns")),
            pa.array([None, None], pa.string()),
        ],
        ["n", "f", "b", "t", "s"],
    )
    bound = insert('"T"', batch)
    assert bound.sql == (
        'INSERT INTO "T" ("n", "f", "b", "t", "s") VALUES (TO_NUMBER(:1), :2, :3, '
        "TO_TIMESTAMP(:4, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF9'), :5)"
    )
    assert list(bound.rows) == [
        ("1.50", 0.1, b"\x00", "1970-01-01T00:00:00.000000001", None),
        (None, None, None, None, None),
    ]
    assert bound.sizes == [4, oracledb.DB_TYPE_BINARY_DOUBLE, oracledb.DB_TYPE_RAW, 29, 1]


@pytest.mark.parametrize("day", ["1582-10-05", "1582-10-14"])
def test_days_that_oracle_moves_are_refused(day: str) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([day]).cast(pa.timestamp("us"))], ["t"])
    with pytest.raises(RefusedRowError) as caught:
        insert("T", batch)
    assert caught.value.code == "value_does_not_fit"
    for around in ("1582-10-04", "1582-10-15", "0001-01-01", "9999-12-31"):
        insert("T", pa.RecordBatch.from_arrays([pa.array([around]).cast(pa.timestamp("us"))], ["t"]))


def test_years_that_oracle_has_not_are_refused() -> None:
    for micros in (-(2**62), 2**62):
        with pytest.raises(RefusedRowError):
            insert("T", pa.RecordBatch.from_arrays([pa.array([micros], pa.timestamp("us"))], ["t"]))


def test_what_is_empty_is_refused_or_null() -> None:
    batch = pa.RecordBatch.from_pydict({"t": ["", "a", None], "b": [b"a", b"", None], "n": [1, 2, 3]})
    for names in (["t"], ["b"], ["t", "b", "n"]):
        with pytest.raises(RefusedRowError) as caught:
            refuse_empty(batch, names)
        assert (caught.value.code, caught.value.column) == ("empty_text", names[0])
        assert "empty_text_is_null" in str(caught.value.hint)
    refuse_empty(batch, ["n"])
    assert without_empty(batch).to_pydict() == {
        "t": [None, "a", None],
        "b": [b"a", None, None],
        "n": [1, 2, 3],
    }


# Errors


def told(number: int, text: str) -> oracledb.DatabaseError:
    account = errors._Error(f"ORA-{number:05}: {text}", code=number)
    return account.exc_type(account)


@pytest.mark.parametrize(
    ("number", "text", "code", "column"),
    [
        (1, "unique constraint (ETL.SYS_C1) violated on table ETL.T columns (ID)", "duplicate_key", None),
        (1400, 'cannot insert NULL into ("ETL"."T"."NOTE")', "value_does_not_fit", "NOTE"),
        (
            12899,
            'value too large for column "ETL"."T"."NOTE" (actual: 30, maximum: 20)',
            "value_does_not_fit",
            "NOTE",
        ),
        (1438, "value larger than specified precision allowed for this column", "value_does_not_fit", None),
        (2290, "check constraint (ETL.POSITIVE) violated", "constraint", None),
        (20001, "not on Sundays", "raised", None),
    ],
)
def test_rows_that_a_table_does_not_take_are_told(
    number: int, text: str, code: str, column: str | None
) -> None:
    found = meant(told(number, text), DestinationError)
    assert isinstance(found, RefusedRowError)
    assert (found.code, found.column) == (code, column)
    assert not isinstance(meant(told(number, text), SourceError), RefusedRowError)


def test_a_row_that_is_there_already_is_told_without_its_values() -> None:
    text = "unique constraint (ETL.SYS_C1) violated\nORA-03301: row with values (ID:secret) already exists"
    assert "secret" not in meant(told(1, text), DestinationError).message


@pytest.mark.parametrize(
    ("number", "code", "retryable"),
    [(955, "table_exists", True), (1950, "permission_denied", False), (16000, "read_only", False)],
)
def test_what_keeps_a_load_from_beginning(number: int, code: str, retryable: bool) -> None:
    found = meant(told(number, "why"), DestinationError)
    assert (found.code, found.retryable) == (code, retryable)
    assert found.hint
