"""Writing PostgreSQL: binary COPY into the table or a stage, and one transaction for rows and ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager

import pyarrow as pa

from atlas_etl.connectors.deletes import refuse_cascades
from atlas_etl.connectors.hazards import without_hazards
from atlas_etl.connectors.sql._checkpoint_line import CHECKPOINTS
from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._postgresql.catalog import CatalogTable, table_called, writing_rules
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._postgresql.dialect import PostgresWriterDialect
from atlas_etl.connectors.sql._postgresql.errors import SEE_ALL_ROWS, quoted
from atlas_etl.connectors.sql._postgresql.examined import PostgresTargetLook, bounded
from atlas_etl.connectors.sql._postgresql.load import LoadConnection
from atlas_etl.connectors.sql._postgresql.reader import ReaderDialect
from atlas_etl.connectors.sql._postgresql.session import ENDS, SessionPool, given_up
from atlas_etl.connectors.sql._postgresql.snapshot import PostgresSnapshot
from atlas_etl.connectors.sql._postgresql.types import arrow_type, declared_form
from atlas_etl.connectors.sql._reconcile import SqlReconcileSession
from atlas_etl.connectors.sql._referenced import refuse_cascading_load
from atlas_etl.connectors.sql._source import Select
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.contracts import Answer
from atlas_etl.errors import DataError, DestinationError, UsageError
from atlas_etl.model import (
    BatchLimits,
    ConnectionStatus,
    Disposition,
    LoadPlan,
    ReconcilePlan,
    Stream,
    TableName,
    WireFormat,
)

_DDL_LOCK = 0x61746C6173  # "atlas": who makes schemas and ledgers in this database waits for each other
_KEY = """
SELECT a.attname FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = to_regclass(%s) AND i.indisprimary AND NOT a.atthasdef AND a.attidentity = ''"""
_READER = ReaderDialect()
_STATEMENT_IS_WRONG = frozenset({
    "sql", "table_not_found", "column_not_found", "data", "read_only", "unsupported", "duplicate_column",
})  # fmt: skip


class PostgresDestination(SqlDestination):
    """Writes a PostgreSQL database."""

    dialect = PostgresWriterDialect()
    reader = _READER

    def __init__(self, config: PostgresConnection) -> None:
        self._config = config
        self._pool = SessionPool(config, DestinationError)

    @contextmanager
    def connect(self) -> Iterator[LoadConnection]:
        with self._pool.session() as session:
            opened = LoadConnection(session, self._config)
            try:
                yield opened
            finally:
                opened.abandon_copy()

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        with self.connect() as connection:
            connection.about = _sql(plan.table)
            self._make_ledger(connection, plan)
            connection.begin()
            self._change(connection, plan)
            yield SqlLoadSession(self._dialect_for(connection, plan), connection, plan)

    def takes(self, offered: WireFormat, plan: LoadPlan) -> bool:
        if plan.changes:
            forms = {field.name: declared_form(field) for field in plan.schema}
        else:
            with self.connect() as connection:
                forms = connection.forms(_sql(plan.table).replace("%", "%%"))
        return forms.items() >= set(offered.columns)

    @contextmanager
    def reconcile(self, plan: ReconcilePlan) -> Iterator[SqlReconcileSession]:
        with self.connect() as connection:
            connection.about = _sql(plan.table)
            yield self.comparison(connection, plan)

    def dialect_for_keys(self, connection: Connection, plan: ReconcilePlan) -> PostgresWriterDialect:
        target = _sql(plan.table)
        refuse_cascades(plan, writing_rules(connection.execute, target).cascades)
        return PostgresWriterDialect(_natives(table_called(connection.execute, target)))

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        found = table_called(connection.execute, _sql(table))
        if found is None:
            return None
        if not found.readable:
            role = connection.execute("SELECT current_user")[0][0]
            raise DestinationError(
                f"role {str(role)!r} may not read the table {table}",
                hint=f"GRANT SELECT, INSERT, UPDATE, DELETE ON {_sql(table)} TO {quoted(str(role))}",
                code="permission_denied",
            )
        return pa.schema([(column.name, arrow_type(column.type)) for column in found.columns])

    def table_key(self, connection: Connection, table: TableName) -> frozenset[str]:
        return frozenset(str(name) for (name,) in connection.execute(_KEY, (_sql(table),)))

    def ledger_schemas(self, connection: Connection) -> Sequence[str | None]:
        rows = connection.execute(
            "SELECT n.nspname FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relname = %s AND c.relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE') "
            "AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1",
            (CHECKPOINTS,),
        )
        return [str(row[0]) for row in rows]

    def test(self) -> ConnectionStatus:
        with self.connect() as connection:
            ((version, role, database, replica, may_create, elsewhere),) = connection.execute(
                "SELECT current_setting('server_version'), current_user, current_database(), "
                "pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'), "
                "(SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' "
                "AND nspname <> 'information_schema' AND has_schema_privilege(oid, 'CREATE'))"
            )
            if replica:
                raise DestinationError(
                    "this server is a replica, which cannot be written to",
                    hint="connect to the primary server",
                    code="read_only",
                )
            grant = f"GRANT CREATE ON DATABASE {quoted(str(database))} TO {quoted(str(role))}"
            if not may_create and not elsewhere:
                raise DestinationError(
                    f"role {str(role)!r} may not make schemas or tables in the database {database}",
                    hint=grant,
                    code="permission_denied",
                )
            connection.begin()
            connection.execute("CREATE TEMPORARY TABLE _atlas_test (n integer) ON COMMIT DROP")
            if may_create:
                connection.execute("CREATE SCHEMA _atlas_test")
                connection.execute("CREATE TABLE _atlas_test.rows (n integer)")
            connection.rollback()
        warning = f"new schemas cannot be made, so a connector's own must be there: {grant}"
        return ConnectionStatus(
            f"tables can be made{self._config.way}", f"PostgreSQL {version}", () if may_create else (warning,)
        )

    @contextmanager
    def reading(self) -> Iterator[PostgresSnapshot]:
        with (
            self._pool.session() as session,
            closing(PostgresSnapshot(session, self._pool)) as snapshot,
            given_up(session, ENDS),
        ):
            yield snapshot

    @contextmanager
    def looking(self) -> Iterator[PostgresTargetLook]:
        with closing(PostgresDestination(bounded(self._config))) as destination:
            yield PostgresTargetLook(destination.reading, self.reader)

    @contextmanager
    def answer(self, sql: str, as_text: Collection[str] = ()) -> Iterator[Answer]:
        try:
            with self.reading() as snapshot:
                relation = snapshot.relation(Stream("query", query=sql))
                columns = tuple(c.as_text() if c.name in as_text else c for c in relation.columns)
                chosen = ", ".join(f"{column.select} AS {_READER.quote(column.name)}" for column in columns)
                rows = snapshot.fetch(
                    Select(f"SELECT {chosen} FROM {relation.sql}", (), columns), BatchLimits()
                )
                yield Answer(pa.schema([column.field for column in columns]), without_hazards(rows))
        except (DestinationError, DataError) as failure:
            if failure.code not in _STATEMENT_IS_WRONG:
                raise
            raise UsageError(failure.message, hint=failure.hint, code="query") from failure

    def close(self) -> None:
        self._pool.close()

    def _make_ledger(self, connection: LoadConnection, plan: LoadPlan) -> None:
        """Schema and ledger, in transactions of their own: one that is open would make other loads wait."""
        ledger = Ledger(self.dialect, plan.connector, plan.stream, plan.table)
        schema = str(plan.table.schema)
        tables = [_sql(ledger.checkpoints_table), _sql(ledger.loads.name), _sql(ledger.quarantine_table)]
        missing = (
            "SELECT to_regnamespace(%s) IS NULL, "
            "to_regclass(%s) IS NULL OR to_regclass(%s) IS NULL OR to_regclass(%s) IS NULL"
        )
        if connection.execute(missing, (quoted(schema), *tables)) != [(False, False)]:
            connection.begin()
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_DDL_LOCK,))
            ((no_schema, no_ledger),) = connection.execute(missing, (quoted(schema), *tables))
            if no_schema:
                connection.execute(self.dialect.create_schema(schema))
            if no_ledger:
                ledger.create(connection)
            connection.commit()
        ledger.begin(connection, plan.run_id)

    def _dialect_for(self, connection: LoadConnection, plan: LoadPlan) -> PostgresWriterDialect:
        """The dialect that knows the table as it is now.

        Raises DestinationError (`referenced`, `row_security`).
        """
        target = _sql(plan.table)
        found = table_called(connection.execute, target)
        rules = writing_rules(connection.execute, target)
        # ON CONFLICT does not see the rows of tables that inherit from this one, and DELETE does.
        keyed = frozenset(plan.primary_key) in rules.keys and (found is None or found.key_is_unique)
        # ON CONFLICT is refused by the server where it meets a row that is hidden; DELETE passes over it.
        if rules.has_policies and not (keyed and plan.disposition is Disposition.MERGE):
            raise DestinationError(
                f"row level security holds for this role on {plan.table}: rows that its policies hide could "
                "not be replaced, and would be there twice",
                hint=SEE_ALL_ROWS,
                code="row_security",
                stream=plan.stream,
            )
        refuse_cascading_load(plan, rules.cascades, keyed=keyed)
        nullable = [column.name for column in found.columns if column.nullable] if found else ()
        return PostgresWriterDialect(_natives(found), nullable, rules.keepers, keyed=keyed)


def _natives(table: CatalogTable | None) -> dict[str, str]:
    """The types of a table's columns, by name."""
    columns = table.columns if table else ()
    return {column.name: column.type.native.replace("%", "%%") for column in columns}


def _sql(table: TableName) -> str:
    return f"{quoted(table.schema)}.{quoted(table.name)}" if table.schema else quoted(table.name)
