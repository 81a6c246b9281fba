"""The rows of one SELECT by binary COPY, refused where their table was rewritten under the snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import psycopg
import pyarrow as pa

from atlas_etl.connectors.sql._fetching import Batches, gathered
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._pgcopy.decode import RowDecoder
from atlas_etl.connectors.sql._pgcopy.passthrough import RowPasser
from atlas_etl.connectors.sql._pgcopy.types import PgCopyError
from atlas_etl.connectors.sql._postgresql.errors import translated
from atlas_etl.connectors.sql._postgresql.messages import CopyMessages, copy_messages
from atlas_etl.connectors.sql._postgresql.session import INTERRUPTIONS, Session, given_up, rendered
from atlas_etl.connectors.sql._postgresql.types import column_type
from atlas_etl.connectors.sql._postgresql.waits import told_of_waits
from atlas_etl.connectors.sql._source import Select
from atlas_etl.errors import ConfigError
from atlas_etl.model import BatchLimits, WireFormat

# A table that was truncated, rewritten or made after the snapshot looks empty in it, and one that was renamed
# is read in place of another: https://www.postgresql.org/docs/current/mvcc-caveats.html. The catalog's rows
# are the snapshot's; the functions know today's files and names. Our locks name every relation that was read,
# by way of views and partitions too, and keep it from changing from now on. A new index is harmless. A child
# that was dropped while its lock was waited for is read no more, and one made in its place not yet.
_FIRST_OF_USERS = 16384  # the oids below are the system's
REWRITTEN = f"""
SELECT l.relation::regclass::text FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.relation >= {_FIRST_OF_USERS} AND (
  c.oid IS NULL AND pg_get_indexdef(l.relation) IS NULL
  OR c.relkind = 'r' AND c.relfilenode <> 0 AND c.relfilenode <> pg_relation_filenode(c.oid)
  OR c.relkind = 'r' AND NOT c.relispartition AND pg_get_partition_constraintdef(c.oid) IS NOT NULL
  OR c.relkind = 'r' AND c.relhassubclass AND EXISTS (
    SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid
    WHERE i.inhparent = c.oid AND k.relkind = 'r' AND pg_relation_filenode(k.oid) IS NULL)
  OR c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, coalesce(a.attnum, 0))).identity
      <> concat_ws('.', quote_ident(n.nspname), quote_ident(c.relname), quote_ident(a.attname)))
LIMIT 1"""


class CopyReader:
    """Reads in a session whose snapshot is taken. `kind` is what its failures raise.

    What `given_up_by` names closes the session, and nothing is waited for.
    """

    def __init__(
        self,
        session: Session,
        kind: Failure,
        about: str | None = None,
        *,
        given_up_by: tuple[type[BaseException], ...] = INTERRUPTIONS,
    ) -> None:
        self._session = session
        self._kind = kind
        self._given_up_by = given_up_by
        self.about = about  # the table that is read, as a GRANT would name it

    def batches(self, select: Select, limits: BatchLimits) -> Batches:
        """The rows, as `Snapshot.fetch` gives them."""
        schema = pa.schema([column.field for column in select.columns])
        types = list(map(column_type, select.columns))
        if select.beside is None:
            decoder = RowDecoder(schema, types)
        else:
            form = WireFormat(tuple((column.name, str(column.wire)) for column in select.columns))
            decoder = RowPasser(schema, types, form, select.beside)
        statement = f"COPY ({select.sql}) TO STDOUT (FORMAT binary)"
        with ExitStack() as stack:
            with self.translated(), _comparing():
                copy_sql = rendered(self._session, statement, select.parameters)
                messages = stack.enter_context(copy_messages(self._session, copy_sql.encode()))
            stack.enter_context(given_up(self._session, self._given_up_by))
            pieces = self._decoded(messages, decoder)
            # To gather is to copy; what is not decoded has little else done to it.
            yield from gathered(pieces, limits) if select.beside is None else pieces
        with self._decoding():
            decoder.finish()
        if select.is_stream:
            with self.translated():
                found = self._session.execute(REWRITTEN.encode()).fetchone()
            self.refuse(found)

    def refuse(self, rewritten: tuple[object, ...] | None) -> None:
        """Raise where a table that this session has read is not the one that the snapshot saw."""
        if rewritten:
            raise self._kind(
                f"{rewritten[0]} was truncated, replaced or rewritten while it was read, and looks empty",
                hint="run again when the other job is done",
                code="table_rewritten",
                retryable=True,
            )

    def translated(self) -> AbstractContextManager[None]:
        """Turns the driver's errors into ours."""
        return translated(self._kind, self._session, about=self.about)

    def _decoded(self, messages: CopyMessages, decoder: RowDecoder) -> Batches:
        while True:
            with self.translated(), _comparing(), told_of_waits(self._session):
                payloads = messages.read()
            if payloads is None:
                return
            with self._decoding():
                decoded = decoder.feed(payloads)
            yield decoded.batch, decoded.hazards

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except PgCopyError as failure:
            raise self._kind(f"what the server sent cannot be read: {failure}", code="protocol") from failure


@contextmanager
def _comparing() -> Iterator[None]:
    """The relation's own SQL was described before: a missing operator or function is one for the cursor."""
    try:
        yield
    except psycopg.errors.UndefinedFunction as failure:
        raise ConfigError(
            f"the cursor's values cannot be compared: {failure.diag.message_primary}",
            hint="choose a column that grows: a timestamp, a number, a date or a sortable text",
            code="cursor_type",
        ) from failure
