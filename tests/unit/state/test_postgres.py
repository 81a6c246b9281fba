"""The state in PostgreSQL: what can be wrong with the server, the login and the rights, and a lost server."""

from __future__ import annotations

import os
import secrets
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.schema import CreateSchema
from tests.conftest import unavailable
from tests.servers import ServerAddress, Unavailable
from tests.servers.postgres import connect, private_server
from tests.waiting import until

from atlas_etl.errors import AtlasError, LockedError, StateError
from atlas_etl.model import RunStatus
from atlas_etl.state import LeaseTimes, PostgresStateStore, open_state_store, schema

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def refused(address: ServerAddress, options: str = "") -> AtlasError:
    with pytest.raises(StateError) as caught:
        PostgresStateStore(address.url("postgresql") + options)
    told = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
    assert address.password not in told
    assert caught.value.hint
    assert f"{address.host}:{address.port}/{address.database}" in caught.value.message
    return caught.value


@contextmanager
def role(server: ServerAddress) -> Iterator[ServerAddress]:
    """An ordinary role of the test's own, in the server's database."""
    name, password = f"atlas_{secrets.token_hex(6)}", secrets.token_hex(16)
    with connect(server) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), password))
        try:
            yield replace(server, username=name, password=password)
        finally:
            admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


class TestRefusals:
    def test_nobody_listens(self, postgres: ServerAddress) -> None:
        error = refused(replace(postgres, port=1))
        assert (error.code, error.retryable) == ("state_unreachable", True)

    def test_no_such_host(self, postgres: ServerAddress) -> None:
        assert refused(replace(postgres, host="no-such-host.invalid")).code == "state_unreachable"

    def test_wrong_password(self, postgres: ServerAddress) -> None:
        error = refused(replace(postgres, password="wrong-password"))
        assert (error.code, error.retryable) == ("state_login", False)

    def test_no_such_role(self, postgres: ServerAddress) -> None:
        assert refused(replace(postgres, username="no such role")).code == "state_login"

    def test_no_such_database(self, postgres: ServerAddress) -> None:
        assert refused(replace(postgres, database="no such/database")).code == "state_database"

    def test_a_bad_option(self, postgres: ServerAddress) -> None:
        refused(postgres, "?no_such_option=1")

    def test_a_password_with_every_special_character(self, postgres: ServerAddress) -> None:
        password = "p@ss:w/o?r#d%25 &=+'\"\\"
        with role(postgres) as account, connect(postgres) as admin:
            name, database = sql.Identifier(account.username), sql.Identifier(postgres.database)
            admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, password))
            admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, name))
            store = open_state_store(replace(account, password=password).url("postgresql"))
            assert store.count_runs() == 0
            store.close()

    def test_a_read_only_server(self, postgres: ServerAddress) -> None:
        options = "?options=-c%20default_transaction_read_only%3Don"
        assert refused(postgres, options).code == "state_unwritable"


class TestRights:
    def test_a_role_that_may_not_create(self, postgres: ServerAddress) -> None:
        with role(postgres) as account:
            error = refused(account)
        assert error.code == "state_permission"
        assert "GRANT CREATE ON DATABASE" in str(error.hint)

    def test_a_role_whose_schema_was_made_for_it(self, postgres: ServerAddress) -> None:
        with role(postgres) as account:
            with connect(postgres) as admin:
                owner = sql.Identifier(account.username)
                admin.execute(sql.SQL("CREATE SCHEMA pipeline AUTHORIZATION {}").format(owner))
            store = PostgresStateStore(account.url("postgresql"))
            with store.lease("shop", triggered_by="t", destination=None) as lease:
                assert lease.token == 1
            store.close()

    def test_a_role_that_may_not_use_what_another_made(self, postgres: ServerAddress) -> None:
        PostgresStateStore(postgres.url("postgresql")).close()
        with role(postgres) as account:
            assert refused(account).code == "state_permission"

    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
    def test_every_spelling_of_the_scheme(self, postgres: ServerAddress, scheme: str) -> None:
        store = open_state_store(postgres.url(scheme))
        assert isinstance(store, PostgresStateStore)
        store.close()


class TestSessions:
    def test_a_session_in_another_time_zone_sees_the_same_instants(self, postgres: ServerAddress) -> None:
        utc = PostgresStateStore(postgres.url("postgresql"))
        elsewhere = PostgresStateStore(
            postgres.url("postgresql") + "?options=-c%20timezone%3DAsia/Kathmandu&application_name=mine"
        )
        run = elsewhere.record_skipped("shop", triggered_by="t", reason="r")
        assert list(utc.history()) == [run]
        assert str(elsewhere.history()[0].started_at.tzinfo) == "UTC"

    def test_a_lost_connection_is_made_anew(self, postgres: ServerAddress) -> None:
        store = PostgresStateStore(postgres.url("postgresql"))
        run = store.record_skipped("shop", triggered_by="t", reason="r")
        with connect(postgres) as admin:
            ended = admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'atlas'"
            ).fetchall()
        assert ended == [(True,)]
        assert list(store.history()) == [run]

    def test_a_forked_child_speaks_on_a_connection_of_its_own(self, postgres: ServerAddress) -> None:
        store = PostgresStateStore(postgres.url("postgresql"))
        ours = self._backend(store)
        child = os.fork()
        if child == 0:
            os._exit(1 if self._backend(store) == ours else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert self._backend(store) == ours

    def test_who_opens_while_another_makes_the_tables_waits(self, postgres: ServerAddress) -> None:
        url = postgres.url("postgresql")
        first = PostgresStateStore(url)
        with connect(postgres) as admin, ThreadPoolExecutor() as pool:
            admin.execute("DROP SCHEMA pipeline CASCADE")
            with first._database.writing() as making:
                first._database.lock_schema(making)
                making.execute(CreateSchema("pipeline"))
                second = pool.submit(PostgresStateStore, url)
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
                until(lambda: admin.execute(waiting).fetchone() == (1,), "the second waits")
                schema.metadata.create_all(making, checkfirst=False)
                version = schema.SCHEMA_VERSION
                making.execute(schema.schema_version.insert().values(version=version, migrated_at=NOON))
            assert second.result(30).count_runs() == 0

    @staticmethod
    def _backend(store: PostgresStateStore) -> int:
        with store._database.reading() as connection:
            backend: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        return backend

    def test_another_default_isolation_level_does_no_harm(self, postgres: ServerAddress) -> None:
        with connect(postgres) as admin:
            admin.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'").format(
                    sql.Identifier(postgres.database)
                )
            )
        store = PostgresStateStore(postgres.url("postgresql"))
        with store._database.reading() as connection:
            assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"

    def test_a_transaction_left_open_by_a_dead_peer_does_not_block_for_ever(
        self, postgres: ServerAddress
    ) -> None:
        store = PostgresStateStore(postgres.url("postgresql"))
        with store._database.writing() as connection:
            limits = [
                connection.exec_driver_sql(f"SHOW {name}").scalar()
                for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
            ]
        assert limits == ["15s", "1min", "1min"]
        with store._database.reading() as connection:
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"


@pytest.fixture(scope="class")
def own_server() -> Iterator[object]:
    try:
        with private_server() as server_and_address:
            yield server_and_address
    except Unavailable as reason:
        unavailable("postgres", reason)


class TestOutage:
    def test_a_heartbeat_survives_a_restart_of_the_server(self, own_server) -> None:
        server, address = own_server
        store = PostgresStateStore(address.url("postgresql"), times=LeaseTimes(0.1, 20))
        with store.lease("shop", triggered_by="t", destination=None) as lease:
            server.kill()
            with pytest.raises(StateError) as caught:
                store.history()
            assert (caught.value.code, caught.value.retryable) == ("state_unreachable", True)
            server.start()
            before = self._heartbeat(address)
            until(lambda: self._heartbeat(address) > before, "the heart beats again")
            assert not lease.lost()
            assert [run.status for run in store.history()] == [RunStatus.RUNNING]
            with pytest.raises(LockedError):
                store.lease("shop", triggered_by="t", destination=None).__enter__()
        assert [run.status for run in store.history()] == [RunStatus.INTERRUPTED]

    def test_a_lease_that_cannot_be_renewed_is_lost_and_the_first_error_is_told(
        self, own_server, caplog: pytest.LogCaptureFixture
    ) -> None:
        server, address = own_server
        store = PostgresStateStore(address.url("postgresql"), times=LeaseTimes(0.05, 0.5))
        with (
            pytest.raises(RuntimeError, match="the load failed"),
            store.lease("other", triggered_by="t", destination=None) as lease,
        ):
            server.kill()
            until(lease.lost, "the lease is known to be lost")
            raise RuntimeError("the load failed")
        assert "was not given back" in caplog.text
        assert address.password not in caplog.text
        server.start()
        until(lambda: store.count_runs("other", status=RunStatus.RUNNING) == 0, "the run has an end")
        (run,) = store.history("other")
        assert run.status is RunStatus.INTERRUPTED

    @staticmethod
    def _heartbeat(address: ServerAddress) -> object:
        with psycopg.connect(address.url("postgresql")) as client:
            row = client.execute(
                "SELECT heartbeat_at FROM pipeline.leases WHERE connector = 'shop'"
            ).fetchone()
        assert row is not None
        return row[0]
