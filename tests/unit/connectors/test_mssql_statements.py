"""The T-SQL that a load into SQL Server sends, word for word: no engine is here that could refuse it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pymssql
import pytest
from msgspec.structs import replace

from atlas_etl.connectors.sql._dialect import NoneLeftOut
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._mssql.dialect import MSSQLWriterDialect
from atlas_etl.connectors.sql._mssql.errors import meant
from atlas_etl.connectors.sql._mssql.load import bound
from atlas_etl.connectors.sql._mssql.rows import inserts
from atlas_etl.connectors.sql._mssql.stored import KeptColumn, declaration, stored_type
from atlas_etl.connectors.sql._mssql.target import Target
from atlas_etl.connectors.sql._quarantine import StreamQuarantine
from atlas_etl.connectors.sql._reconcile import SqlReconcileSession
from atlas_etl.connectors.sql._trial import SavepointTrial
from atlas_etl.errors import DestinationError, RefusedRowError
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    Deletes,
    Disposition,
    LoadPlan,
    QuarantineChange,
    ReconcilePlan,
    TableName,
    WidenColumn,
)

BIN2 = "COLLATE Latin1_General_100_BIN2"
TABLE = TableName("or]ders", "shop")
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("seen", pa.timestamp("us", "UTC"))])
ID = KeptColumn("id", "bigint", "bigint", 19, 0, None, False, False)
NAME = KeptColumn("name", "nvarchar", "nvarchar(max)", 0, 0, "Latin1_General_100_BIN2", True, False)
SEEN = KeptColumn("seen", "datetimeoffset", "datetimeoffset(6)", 33, 6, None, True, False)
GONE = KeptColumn("gone", "int", "int", 10, 0, None, True, False)
COUNTED = KeptColumn("counted", "int", "int", 10, 0, None, True, True)
FOLDING = replace(NAME, collation="SQL_Latin1_General_CP1_CI_AS")


class Listener(NoneLeftOut):
    """A connection that keeps what it is told; every count is 1."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        self.said.append(bound(sql, parameters))
        if "COUNT_BIG" in sql:
            return [(1,)]
        if "max(CASE" in sql:
            return [(None,) * 6]
        line = ("shop", "orders", TABLE.name, "7", "run-1", *([None] * 10))
        return [line] if "[writer], " in sql and sql.startswith("SELECT") else []

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        self.said += inserts(table, batch)

    def begin(self) -> None: ...

    def commit(self) -> None:
        self.said.append("COMMIT")

    def rollback(self) -> None: ...


def plan(disposition: Disposition, **more: object) -> LoadPlan:
    settings: dict[str, object] = {"primary_key": ("id",), "cursor": "seen", **more}
    return LoadPlan("run-1", "shop", "orders", TABLE, disposition, SCHEMA, **settings)


def dialect(*kept: KeptColumn, keyed: bool = False) -> MSSQLWriterDialect:
    return MSSQLWriterDialect(kept, keyed=keyed)


def rows(*cells: tuple[object, ...]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in cells], SCHEMA)


OPENED = (
    "FROM OPENJSON(N'[[\"1\",\"it''s\",null]]') WITH (c0 nvarchar(100) '$[0]', c1 nvarchar(max) '$[1]', "
    "c2 nvarchar(100) '$[2]') AS atlas_rows OPTION (RECOMPILE)"
)


def test_an_append_deletes_its_tail_and_inserts() -> None:
    tail = CursorValue(CursorKind.TIMESTAMPTZ, "2026-01-01T00:02:00.000000Z")
    connection = Listener()
    checkpoint = Checkpoint("seen", tail, tail)
    with_tail = plan(Disposition.APPEND, tail=checkpoint, primary_key=(), tail_has_nulls=True)
    session = SqlLoadSession(dialect(ID, NAME, SEEN), connection, with_tail)
    session.write(rows((1, "it's", None)))
    where = "[seen] >= CAST(N'2026-01-01T00:02:00.000000Z' AS datetimeoffset(6)) OR [seen] IS NULL"
    counted, deleted, looked, inserted = connection.said
    assert looked.startswith("SELECT max([committed_at]), max(CASE")
    assert [counted, deleted, inserted] == [
        f"SELECT COUNT_BIG(*) FROM [shop].[or]]ders] WHERE {where}",
        f"DELETE FROM [shop].[or]]ders] WHERE {where}",
        "INSERT INTO [shop].[or]]ders] ([id], [name], [seen]) SELECT CONVERT(bigint, c0), c1, "
        f"CONVERT(datetimeoffset(6), c2) {OPENED}",
    ]


def test_a_tail_of_texts_heeds_blanks_at_the_end() -> None:
    text = CursorValue(CursorKind.TEXT, "b ")
    tail = Checkpoint("name", text, text, tail_values=("b ", "c'"))
    connection = Listener()
    SqlLoadSession(dialect(), connection, plan(Disposition.APPEND, tail=tail, cursor="name"))
    assert connection.said[1] == (
        f"DELETE FROM [shop].[or]]ders] WHERE [name] IS NOT NULL AND CONCAT([name], N'|') {BIN2} "
        "IN (CONCAT(N'b ', N'|'), CONCAT(N'c''', N'|'))"
    )


def test_a_replace_empties_the_table() -> None:
    connection = Listener()
    SqlLoadSession(dialect(), connection, plan(Disposition.REPLACE))
    emptied, looked = connection.said
    assert emptied == "DELETE FROM [shop].[or]]ders]"
    assert looked.startswith("SELECT max([committed_at]), max(CASE")


OF_TABLE = "[table_name] COLLATE CATALOG_DEFAULT = N'or]ders' COLLATE CATALOG_DEFAULT"
LINE = (
    f"[connector], [stream], CASE WHEN {OF_TABLE} THEN [table_name] END, "
    "[version], [writer], [cursor_column], [cursor_kind], [high], "
    "[tail_from], [tail_values], [watermarks], [parents], [protection], [run_id], [committed_at]"
)
OF_STREAM = "WHERE [connector] = N'shop' AND [stream] = N'orders'"
CLAIM = f"SELECT {LINE} FROM [shop].[_atlas_checkpoints] WITH (UPDLOCK, HOLDLOCK) {OF_STREAM}"


def test_a_merge_updates_then_inserts_what_is_not_there() -> None:
    connection = Listener()
    kept = dialect(ID, NAME, SEEN, GONE, COUNTED, keyed=True)
    session = SqlLoadSession(kept, connection, plan(Disposition.MERGE))
    session.write(rows((1, "it's", None)))
    session.commit(None)
    stage, target = "[#_atlas_stage]", "[shop].[or]]ders] AS there WITH (UPDLOCK, HOLDLOCK)"
    *said, version, load, committed = connection.said
    assert said == [
        f"CREATE TABLE {stage} ([id] bigint NULL, [name] nvarchar(max) {BIN2} NULL, "
        "[seen] datetimeoffset(6) NULL, [_atlas_row] bigint NULL)",
        f"INSERT INTO {stage} ([id], [name], [seen], [_atlas_row]) SELECT CONVERT(bigint, c0), c1, "
        'CONVERT(datetimeoffset(6), c2), CONVERT(bigint, c3) FROM OPENJSON(N\'[["1","it\'\'s",null,"0"]]\') '
        "WITH (c0 nvarchar(100) '$[0]', c1 nvarchar(max) '$[1]', c2 nvarchar(100) '$[2]', "
        "c3 nvarchar(100) '$[3]') AS atlas_rows OPTION (RECOMPILE)",
        f"DELETE FROM {stage} WHERE [_atlas_row] IN (SELECT [_atlas_row] FROM (SELECT [_atlas_row], "
        "ROW_NUMBER() OVER (PARTITION BY [id] ORDER BY [seen] DESC, [_atlas_row] DESC) AS [_atlas_rank] "
        f"FROM {stage}) ranked WHERE [_atlas_rank] > 1)",
        f"SELECT COUNT_BIG(*) FROM {stage}",
        f"SELECT COUNT_BIG(*) FROM {stage} staged WHERE EXISTS (SELECT 1 FROM [shop].[or]]ders] there "
        "WHERE there.[id] = staged.[id] AND there.[seen] = staged.[seen])",
        f"UPDATE there SET [name] = staged.[name], [seen] = staged.[seen], [gone] = DEFAULT FROM {target} "
        f"INNER JOIN {stage} AS staged ON there.[id] = staged.[id]",
        f"INSERT INTO [shop].[or]]ders] ([id], [name], [seen]) SELECT [id], [name], [seen] FROM {stage} AS "
        f"staged WHERE NOT EXISTS (SELECT 1 FROM {target} WHERE there.[id] = staged.[id])",
        f"DROP TABLE {stage}",
        CLAIM,
    ]
    assert version == f"UPDATE [shop].[_atlas_checkpoints] SET [version] = N'8' {OF_STREAM}"
    assert load.startswith("INSERT INTO [shop].[_atlas_loads] ([load_id], [run_id], [connector], ")
    assert committed == "COMMIT"


def test_a_merge_by_a_text_heeds_its_length_and_its_exact_letters() -> None:
    by_name = plan(Disposition.MERGE, primary_key=("name",))
    same = "[#s].[name] = [or]]ders].[name] AND DATALENGTH([#s].[name]) = DATALENGTH([or]]ders].[name])"
    deleted, inserted = dialect(ID, NAME).merge(by_name, "[#s]")
    assert deleted == (
        "DELETE FROM [shop].[or]]ders] WITH (UPDLOCK, HOLDLOCK) "
        f"WHERE EXISTS (SELECT 1 FROM [#s] WHERE {same})"
    )
    assert inserted == (
        "INSERT INTO [shop].[or]]ders] ([id], [name], [seen]) SELECT [id], [name], [seen] FROM [#s]"
    )
    assert dialect(ID, FOLDING).same("a", "b", ["name"]) == (
        f"a.[name] {BIN2} = b.[name] {BIN2} AND DATALENGTH(a.[name]) = DATALENGTH(b.[name])"
    )
    assert "PARTITION BY [name], DATALENGTH([name]) ORDER BY" in dialect(NAME).rank(by_name)


def test_a_comparison_of_keys_deletes_and_counts() -> None:
    connection = Listener()
    keys = pa.schema([("id", pa.int64())])
    compared = ReconcilePlan(
        "run-1",
        "shop",
        "orders",
        TABLE,
        keys,
        Deletes(max_share=1),
        datetime(2026, 1, 1, tzinfo=UTC),
        False,
        7,
    )
    session = SqlReconcileSession(dialect(ID), connection, compared)
    session.write(pa.RecordBatch.from_arrays([pa.array([1])], schema=keys))
    session.commit()
    gone = "NOT EXISTS (SELECT 1 FROM [#_atlas_stage] WHERE [#_atlas_stage].[id] = [or]]ders].[id])"
    assert f"SELECT COUNT_BIG(*) FROM [shop].[or]]ders] WHERE 1 = 1 AND {gone}" in connection.said
    assert f"DELETE FROM [shop].[or]]ders] WHERE {gone}" in connection.said
    assert connection.said[0] == "CREATE TABLE [#_atlas_stage] ([id] bigint NULL, [_atlas_row] bigint NULL)"


def test_a_trial_saves_and_rolls_back() -> None:
    connection = Listener()
    trial = SavepointTrial(dialect(ID, NAME, SEEN), connection, plan(Disposition.APPEND))
    assert trial.refusals(rows((1, "it's", None))) == {}
    save, part, inserted, undone = connection.said
    assert (save, part) == ("SAVE TRANSACTION _atlas_batch", "SAVE TRANSACTION _atlas_part")
    assert inserted.startswith("INSERT INTO [shop].[or]]ders]")
    assert undone == "ROLLBACK TRANSACTION _atlas_batch"


def test_tables_are_made_and_changed() -> None:
    made = dialect()
    assert made.create_schema("it's]") == ("IF SCHEMA_ID(N'it''s]') IS NULL EXEC(N'CREATE SCHEMA [it''s]]]')")
    assert made.create_table(TABLE, SCHEMA, ("id",)) == (
        f"CREATE TABLE [shop].[or]]ders] ([id] bigint NOT NULL, [name] nvarchar(max) {BIN2} NULL, "
        "[seen] datetimeoffset(6) NULL, PRIMARY KEY ([id]))"
    )
    assert "PRIMARY KEY" not in made.create_table(TABLE, SCHEMA, ("id", "name"))
    field = pa.field("note", pa.string())
    assert (
        made.add_column(TABLE, field) == f"ALTER TABLE [shop].[or]]ders] ADD [note] nvarchar(max) {BIN2} NULL"
    )
    number = WidenColumn("n", pa.int32(), pa.field("n", pa.int64()))
    assert made.widen(TABLE, number) == ("ALTER TABLE [shop].[or]]ders] ALTER COLUMN [n] bigint NULL",)
    uuid = WidenColumn("u", pa.uuid(), pa.field("u", pa.string()))
    assert made.widen(TABLE, uuid) == (
        f"ALTER TABLE [shop].[or]]ders] ALTER COLUMN [u] nvarchar(max) {BIN2} NULL",
        "UPDATE [shop].[or]]ders] SET [u] = LOWER([u])",
    )


def test_the_ledger() -> None:
    connection = Listener()
    ledger = Ledger(dialect(), "shop", "it's", TABLE)
    ledger.begin(connection, "run-1")
    assert not ledger.loads.history(connection).is_loaded
    ledger.loads.has_load(connection, "sha")
    begun, history, has_load = connection.said
    assert begun == (
        "UPDATE [shop].[_atlas_checkpoints] WITH (UPDLOCK, HOLDLOCK) SET [writer] = N'run-1' "
        "WHERE [connector] = N'shop' AND [stream] = N'it''s'; "
        "IF @@ROWCOUNT = 0 INSERT INTO [shop].[_atlas_checkpoints] "
        "([connector], [stream], [table_name], [version], [writer]) "
        "VALUES (N'shop', N'it''s', N'or]ders', N'0', N'run-1')"
    )
    assert history.startswith(
        "SELECT max([committed_at]), "
        "max(CASE WHEN [connector] = N'shop' AND [stream] = N'it''s' THEN [committed_at] END), "
    )
    assert history.endswith(f"FROM [shop].[_atlas_loads] WHERE {OF_TABLE}")
    assert "SUBSTRING([load_id], 1, 4) = N'sha/'" in has_load
    ledger.create(connection)
    assert connection.said[3].startswith(
        "IF OBJECT_ID(N'[shop].[_atlas_checkpoints]', N'U') IS NULL CREATE TABLE [shop].[_atlas_checkpoints] "
        f"([connector] nvarchar(255) {BIN2} NOT NULL, "
    )
    assert connection.said[3].endswith(", PRIMARY KEY NONCLUSTERED ([connector], [stream]))")
    StreamQuarantine(dialect(), "shop", "orders", TABLE).apply(
        connection, QuarantineChange(frozenset({"a", "b'"}))
    )
    assert connection.said[-1] == (
        "DELETE FROM [shop].[_atlas_quarantine] WHERE [quarantine_id] IN (N'a', N'b''')"
    )


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        (pa.bool_(), "bit"), (pa.int8(), "smallint"), (pa.uint8(), "tinyint"), (pa.uint16(), "int"),
        (pa.uint32(), "bigint"), (pa.uint64(), "decimal(20,0)"), (pa.float32(), "real"),
        (pa.float64(), "float(53)"), (pa.decimal128(38, 10), "decimal(38,10)"),
        (pa.decimal256(39, 0), f"nvarchar(max) {BIN2}"), (pa.decimal128(5, -2), f"nvarchar(max) {BIN2}"),
        (pa.string(), f"nvarchar(max) {BIN2}"), (pa.json_(), f"nvarchar(max) {BIN2}"),
        (pa.list_(pa.int32()), f"nvarchar(max) {BIN2}"), (pa.large_binary(), "varbinary(max)"),
        (pa.date64(), "date"), (pa.time32("s"), "time(6)"), (pa.time64("ns"), f"nvarchar(max) {BIN2}"),
        (pa.timestamp("s"), "datetime2(6)"), (pa.timestamp("ns"), f"nvarchar(max) {BIN2}"),
        (pa.timestamp("ms", "Europe/Berlin"), "datetimeoffset(6)"), (pa.uuid(), "uniqueidentifier"),
    ],
)  # fmt: skip
def test_declarations(kind: pa.DataType, declared: str) -> None:
    assert declaration(stored_type(kind)) == declared


def test_values_are_converted_explicitly() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "f": pa.array([0.1, -0.0, None]),
            "r": pa.array([0.1, 1.5, None], pa.float32()),
            "b": pa.array([b"\x00\xff", b"", None]),
            "n": pa.array(["a\0b", "", None]),
            "d": pa.array([Decimal("1.50"), Decimal("-0.01"), None], pa.decimal128(38, 2)),
        }
    )
    (statement,) = inserts("[t]", batch)
    head, _, tail = statement.partition(" FROM OPENJSON(N'")
    assert head == (
        "INSERT INTO [t] ([f], [r], [b], [n], [d]) SELECT "
        "CASE WHEN CONVERT(binary(8), CONVERT(float(53), SUBSTRING(c0, 17, 100))) = "
        "CONVERT(binary(8), SUBSTRING(c0, 1, 16), 2) THEN CONVERT(float(53), SUBSTRING(c0, 17, 100)) "
        "WHEN c0 IS NOT NULL THEN CONVERT(int, CONCAT(N'atlas_inexact', SUBSTRING(c0, 1, 0))) END, "
        "CASE WHEN CONVERT(binary(4), CONVERT(real, SUBSTRING(c1, 9, 100))) = "
        "CONVERT(binary(4), SUBSTRING(c1, 1, 8), 2) THEN CONVERT(real, SUBSTRING(c1, 9, 100)) "
        "WHEN c1 IS NOT NULL THEN CONVERT(int, CONCAT(N'atlas_inexact', SUBSTRING(c1, 1, 0))) END, "
        "CONVERT(varbinary(max), c2, 2), CONVERT(nvarchar(max), CONVERT(varbinary(max), c3, 2)), "
        "CONVERT(decimal(38,2), c4)"
    )
    assert tail.startswith(
        '[["3fb999999999999a0.1","3dcccccd0.10000000149011612","00ff","610000006200","1.50"],'
        '["00000000000000000","3fc000001.5","","","-0.01"],[null,null,null,null,null]]\') WITH ('
    )


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, float("nan")]), pa.array([float("-inf")], pa.float32()),
        pa.array([-800_000], pa.date32()), pa.array([2**62], pa.timestamp("us")),
    ],
)  # fmt: skip
def test_what_the_server_has_no_form_of_is_refused(column: pa.Array) -> None:
    with pytest.raises(RefusedRowError) as caught:
        list(inserts("[t]", pa.RecordBatch.from_arrays([column], ["v"])))
    assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "v")


def test_many_rows_are_several_statements() -> None:
    text = "x" * 300_000
    said = list(inserts("[t]", pa.RecordBatch.from_pydict({"v": [text] * 10})))
    assert [statement.count(text) for statement in said] == [3, 3, 3, 1]
    assert list(inserts("[t]", pa.RecordBatch.from_pydict({"v": pa.array([], pa.string())}))) == []


def test_parameters_stand_where_no_name_and_no_text_is() -> None:
    said = bound(
        "SELECT [a?b]]?] FROM t WHERE x = N'?' AND y = ? AND z = ?1 AND u IN (?, ?)", (1, None, b"\x01")
    )
    assert said == "SELECT [a?b]]?] FROM t WHERE x = N'?' AND y = 1 AND z = 1 AND u IN (NULL, 0x01)"
    assert bound("?", ("a\0b",)) == "CAST(0x610000006200 AS nvarchar(max))"


@pytest.mark.parametrize(
    "native", ["varchar(20)", "datetime2(3)", "time(0)", "nchar(3)", "smalldatetime", "xml"]
)
def test_a_column_that_would_change_values_is_refused(native: str) -> None:
    kind, _, scale = native.rstrip(")").partition("(")
    column = KeptColumn("name", kind, native, 0, int(scale or 0), None, True, False)
    with pytest.raises(DestinationError) as caught:
        Target(TABLE, (ID, column), (), ()).refuse(plan(Disposition.APPEND))
    assert (caught.value.code, caught.value.column) == ("inexact_column", "name")


@pytest.mark.parametrize(
    ("number", "text", "code"),
    [
        (
            2627,
            "Violation of PRIMARY KEY constraint 'PK'. The duplicate key value is (secret).",
            "duplicate_key",
        ),
        (
            2601,
            "Cannot insert duplicate key row in 't' with unique index 'IX'. The value is (secret).",
            "duplicate_key",
        ),
        (515, "Cannot insert the value NULL into column 'c', table 't'; INSERT fails.", "value_does_not_fit"),
        (547, 'The INSERT statement conflicted with the CHECK constraint "CK". secret', "constraint"),
        (
            2628,
            "String would be truncated in table 't', column 'c'. Truncated value: 'secret'.",
            "value_does_not_fit",
        ),
        (
            245,
            "Conversion failed when converting the nvarchar value 'secret' to data type int.",
            "value_does_not_fit",
        ),
        (
            245,
            "Conversion failed when converting the nvarchar value 'atlas_inexact' to int.",
            "inexact_number",
        ),
        (50000, "no orders today", "raised"),
        (2714, "There is already an object named 't' in the database.", "table_exists"),
        (1205, "Transaction was deadlocked.", "conflict"),
        (3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.", "conflict"),
        (262, "CREATE SCHEMA permission denied in database 'shop'.", "permission_denied"),
        (3906, "Failed to update database because the database is read-only.", "read_only"),
    ],
)
def test_errors_of_a_load_have_a_code_and_no_value(number: int, text: str, code: str) -> None:
    found = meant(pymssql.OperationalError(number, text.encode()), DestinationError)
    assert found.code == code
    assert found.hint
    assert "secret" not in found.message
    assert found.retryable == (code in ("table_exists", "conflict"))
