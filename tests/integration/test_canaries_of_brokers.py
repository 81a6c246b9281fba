"""No secret of a broker is shown or written down, or told to a process that has no need of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import asyncssh
import psycopg
import pytest
from redis import Redis
from tests.cage import CLOSED, Cage, deadline, descendants, kept
from tests.canaries import Canaries
from tests.conftest import unavailable
from tests.due import just_due
from tests.servers import ServerAddress, Unavailable
from tests.servers import postgres as postgres_recipe
from tests.servers import redis as redis_recipe
from tests.servers.ssh import SshServer

from atlas_etl.model import DecidedSchedule, SlotStatus
from atlas_etl.state.open import open_state_store

SECONDS = 80


@pytest.fixture(scope="module")
def locked_redis() -> Iterator[tuple[str, str]]:
    """Host and port of a Redis with a password, and the password."""
    try:
        with redis_recipe.serve() as url, closing(Redis.from_url(url)) as client:
            client.config_set("requirepass", "right")
            yield url.removeprefix("redis://").removesuffix("/0"), "right"
            client.config_set("requirepass", "")
        return
    except Unavailable as missing:
        reason = str(missing)
    unavailable("redis", reason)


def due_slot(cage: Cage) -> tuple[str, datetime]:
    """A connector whose slot is due as soon as a scheduler looks."""
    cage.write("orders.csv", "id\n1\n")
    cage.write("atlas.yaml", {"schedule": {"executor": "celery", "retries": 0, "shutdown_grace": "1s"}})
    cron, slot = just_due()
    definition = {"protocol": "csv", "connection": {"path": "orders.csv"}, "schedule": cron}
    cage.write(
        "connectors.d/orders.yaml", {**definition, "streams": [{"name": "orders", "path": "orders.csv"}]}
    )
    with closing(open_state_store(cage.project.folder / ".atlas" / "state.db")) as store:
        store.schedule.decide({"orders": DecidedSchedule(cron, "UTC", slot - timedelta(hours=2))})
    return cron, slot


BROKERS = {
    "closed": f"redis://etl:{{}}@127.0.0.1:{CLOSED}/0",
    "denied": "redis://:{}@{}/0",
    "no database": f"redis://etl:{{}}@127.0.0.1:{CLOSED}/nothing",
    "port": "redis://etl:{}@127.0.0.1:none/0",
    "scheme": "odd://etl:{}@127.0.0.1/0",
    "tls": f"rediss://etl:{{}}@127.0.0.1:{CLOSED}/0?ssl_cert_reqs=required",
    "sentinel": f"sentinel://etl:{{}}@127.0.0.1:{CLOSED}/0",
    "option": f"redis://127.0.0.1:{CLOSED}/0?password={{}}",
}


@pytest.mark.parametrize("how", BROKERS)
def test_brokers_that_do_not_let_the_scheduler_in(
    cage: Cage, how: str, locked_redis: tuple[str, str]
) -> None:
    _, slot = due_slot(cage)
    canary = cage.canaries.at(f"broker {how}")
    url = BROKERS[how].format(quote(canary, safe=""), locked_redis[0])
    daemon = cage.project.start("schedule", "-vv", env={"CELERY_BROKER_URL": url})
    try:
        with closing(open_state_store(cage.project.folder / ".atlas" / "state.db")) as store:
            for _ in deadline("the slot was not given back", SECONDS):
                found = store.schedule.slot("orders", slot)
                if daemon.poll() is not None or (
                    found is not None and found.status in {SlotStatus.FAILED, SlotStatus.DEAD}
                ):
                    break
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            out, err = daemon.communicate(timeout=SECONDS)
        finally:
            daemon.kill()
    assert daemon.returncode == 0, err
    cage.said |= {"stdout of the daemon": out.encode(), "stderr of the daemon": err.encode()}
    for command in (("schedule", "status"), ("schedule", "dead", "list"), ("audit",), ("config", "show")):
        cage.atlas(*command, "--json", "-vv")
    assert cage.leaks() == ""


@pytest.mark.parametrize("how", ["closed", "denied", "port", "option"])
def test_workers_that_are_not_let_in(cage: Cage, how: str, locked_redis: tuple[str, str]) -> None:
    """The worker is Celery's own command, in which our module says how it logs."""
    due_slot(cage)
    canary = cage.canaries.at(f"worker {how}")
    url = BROKERS[how].format(quote(canary, safe=""), locked_redis[0])
    cage.own.append(
        cage.project.write(
            "limits.py", "broker_connection_retry_on_startup = False\nbroker_connection_max_retries = 1\n"
        )
    )
    environ = {
        "CELERY_BROKER_URL": url,
        "ATLAS_CELERY_CONFIG": "limits",
        "PYTHONPATH": str(cage.project.folder),
    }
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "atlas_etl.scheduler.celery_app", "worker", "-P", "solo",
         "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "debug"],
        cwd=cage.project.folder, env=cage.project.environment(environ), stdin=subprocess.DEVNULL,
        capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    cage.said |= {"stdout of the worker": done.stdout, "stderr of the worker": done.stderr}
    assert cage.leaks() == ""


@contextmanager
def owner_of_orders(cage: Cage, server: ServerAddress) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """An account of a canary's name and password, which may read one table; the client that made both."""
    password = cage.canaries.at("database env")
    with postgres_recipe.connect(server) as client:
        client.execute(
            psycopg.sql.SQL("CREATE ROLE canary LOGIN PASSWORD {}").format(psycopg.sql.Literal(password))
        )
        client.execute("CREATE TABLE orders AS SELECT 1 AS id")
        client.execute("GRANT SELECT ON orders TO canary")
        try:
            yield client
        finally:
            client.rollback()
            client.execute("DROP OWNED BY canary")
            client.execute("DROP ROLE canary")


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_what_ps_shows_of_a_worker_and_its_run_through_a_tunnel(
    cage: Cage, locked_redis: tuple[str, str], ssh: SshServer, postgres: ServerAddress
) -> None:
    """Nothing in command lines, and in a run's environment nothing of the broker, which it never talks to."""
    where, right = locked_redis
    brokers = Canaries()
    broker = brokers.at("broker", odd=False)
    passphrase = kept(cage, "env", "passphrase")
    key = cage.project.folder / "id_encrypted"
    key.touch(mode=0o600)
    key.write_bytes(
        asyncssh.read_private_key(str(ssh.key)).export_private_key(
            "openssh", passphrase=cage.canaries.at("passphrase env"), rounds=1
        )
    )
    cage.own.append(key)
    cron, slot = due_slot(cage)
    connection = {
        "host": postgres.host, "port": postgres.port, "database": postgres.database, "username": "canary",
        "password": kept(cage, "env", "database"),
        "tunnel": ssh.tunnel(key=str(key), passphrase=passphrase),
    }  # fmt: skip
    definition = {"protocol": "postgresql", "connection": connection, "schedule": cron}
    cage.write("connectors.d/orders.yaml", {**definition, "streams": [{"name": "orders", "table": "orders"}]})
    environ = {
        **cage.environ, "CELERY_BROKER_URL": f"redis://canary:{broker}@{where}/0",
        "CELERY_RESULT_BACKEND": f"redis://canary:{broker}@{where}/0", "PYTHONPATH": str(cage.project.folder),
    }  # fmt: skip
    with (
        closing(Redis.from_url(f"redis://:{right}@{where}/0")) as redis,
        owner_of_orders(cage, postgres) as client,
        closing(open_state_store(cage.project.folder / ".atlas" / "state.db")) as store,
    ):
        redis.execute_command("ACL", "SETUSER", "canary", "on", f">{broker}", "~*", "&*", "+@all")
        client.execute("BEGIN")
        client.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "atlas_etl.scheduler.celery_app", "worker", "-P", "solo",
             "-l", "debug"],
            cwd=cage.project.folder, env=cage.project.environment(environ), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        daemon = cage.project.start("schedule", "-vv", env=environ)
        try:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE usename = 'canary' AND wait_event_type = 'Lock'"
            with postgres_recipe.connect(postgres) as looking:
                for _ in deadline("the run does not wait for the table", SECONDS):
                    if looking.execute(waiting).fetchone() is not None:
                        break
            runs = descendants(worker.pid) - {worker.pid}
            for process in descendants(daemon.pid) - {daemon.pid}:  # tests, which may end meanwhile
                with suppress(OSError):
                    cage.said[f"command line of {process}"] = Path(f"/proc/{process}/cmdline").read_bytes()
            for process in {daemon.pid, *runs, worker.pid}:
                cage.said[f"command line of {process}"] = Path(f"/proc/{process}/cmdline").read_bytes()
            assert brokers.found({"worker": environment_of(worker.pid)}) == ["broker in worker"]
            assert runs
            for run in runs:
                assert brokers.found({"run": environment_of(run)}) == []
            client.execute("ROLLBACK")
            for _ in deadline("the run did not end", SECONDS):
                found = store.schedule.slot("orders", slot)
                if found is not None and found.status is SlotStatus.COMPLETED:
                    break
            tasks = {str(number): bytes(redis.dump(key) or b"") for number, key in enumerate(redis.keys())}
        finally:
            for process in (daemon, worker):
                process.send_signal(signal.SIGTERM)
            out, err = daemon.communicate(timeout=60)
            said = worker.communicate(timeout=60)
            redis.execute_command("ACL", "DELUSER", "canary")
    cage.said |= {"stdout of the daemon": out.encode(), "stderr of the daemon": err.encode(), **tasks}
    cage.said |= {"stdout of the worker": said[0], "stderr of the worker": said[1]}
    cage.canaries.texts |= brokers.texts
    assert cage.leaks() == ""
