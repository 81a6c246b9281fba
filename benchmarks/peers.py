"""Other programs on the same paths: each in an environment of its own, used as its documentation recommends.

A ratio is to a version, so requirements are exact. What needs more than a package registry to be installed
cannot be had by everybody: it is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import Unavailable, postgres

from benchmarks.ends import ChangingPostgresSource, End, Setting, address_of
from benchmarks.environments import Environment
from benchmarks.measure import Command
from benchmarks.paths import Path as Route
from benchmarks.programs import program

# None of them may tell anybody about a benchmark, nor wait for an answer.
_QUIET = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "INGESTR_DISABLE_TELEMETRY": "true",
    "DISABLE_TELEMETRY": "true",
    "SLING_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A contender that copies rows. `paths` are those that it can do; `words` say with which settings."""

    name: str
    requirements: tuple[str, ...]
    words: str
    paths: frozenset[str]
    make: Callable[[Route, Setting, Path, bool], Command] = field(repr=False)
    """The command; `again` of a load after the first one."""

    @property
    def environment(self) -> Environment:
        return Environment(self.name, self.requirements)

    def prepare(self, path: Route, setting: Setting) -> Sequence[Command]:
        if path.load != "changes":
            return ()
        first = self._made(path, setting, again=False)
        return first, ChangingPostgresSource().change(setting.source, setting.folder)

    def command(self, path: Route, setting: Setting) -> Command | None:
        return self._made(path, setting, again=path.load != "append") if path.name in self.paths else None

    def copies(self, path: Route) -> bool:  # noqa: ARG002
        return True

    def _made(self, path: Route, setting: Setting, *, again: bool) -> Command:
        made = self.make(path, setting, self.environment.programs, again)
        return Command(made.arguments, made.folder, {**_QUIET, **made.environment})


def installed(peers: Iterable[Peer]) -> dict[str, str]:
    """Install them all; the names of those that cannot be had here, and why."""
    missing = {}
    for peer in peers:
        try:
            peer.environment.install()
        except Unavailable as reason:
            missing[peer.name] = str(reason)
    return missing


def _script(name: str) -> Callable[[Route, Setting, Path, bool], Command]:
    def make(path: Route, setting: Setting, programs: Path, again: bool) -> Command:  # noqa: ARG001
        ends = {"from": path.source.name, "to": path.destination.name, "load": path.load}
        file = {"file": str(setting.source.path)} if "path" in setting.source.connection else {}
        return program(name, setting, python=str(programs / "python"), **ends, **file)

    return make


def _ingestr(path: Route, setting: Setting, programs: Path, again: bool) -> Command:  # noqa: ARG001
    table = setting.table
    name = f"public.{table.name}"
    load: tuple[str, ...] = ("--incremental-strategy", "replace")
    if again:  # it keeps no checkpoint: its user says from where on
        keys = tuple(part for key in table.key for part in ("--primary-key", key))
        since = ("--incremental-key", table.cursor, "--interval-start", _greatest(setting))
        load = ("--incremental-strategy", "merge", *keys, *since)
    uris = {"SOURCE_URI": _uri(setting.source), "DESTINATION_URI": _uri(setting.destination)}
    return Command(
        (
            str(programs / "ingestr"), "ingest", "--yes", "--progress", "log",
            "--columns", "uid:string", "--source-table", name, "--dest-table", name, *load,
        ),
        setting.folder, uris,
    )  # fmt: skip


def _sling(path: Route, setting: Setting, programs: Path, again: bool) -> Command:  # noqa: ARG001
    table = setting.table
    found = next(programs.parent.glob("lib/*/site-packages/sling_linux_amd64/bin/sling-linux-amd64"))
    environment = {
        "SOURCE": _uri(setting.source),
        "TARGET": _uri(setting.destination),
        "SLING_HOME_DIR": str(setting.folder),
    }
    mode: tuple[str, ...] = ("--mode", "full-refresh")
    if path.load == "changes":
        mode = ("--mode", "incremental", "--primary-key", ",".join(table.key), "--update-key", table.cursor)
    stream = ("--src-conn", "SOURCE", "--src-stream", f"public.{table.name}")
    target = ("--tgt-conn", "TARGET", "--tgt-object", f"public.{table.name}")
    return Command((str(found), "run", *stream, *target, *mode), setting.folder, environment)


def _greatest(setting: Setting) -> str:
    """The cursor's, at the source and before anything changes."""
    with postgres.connect(address_of(setting.source)) as client:
        found = client.execute(f"SELECT max({setting.table.cursor}) FROM {setting.table.name}").fetchone()
    return str(found[0].isoformat()) if found else ""


def _uri(end: End) -> str:
    """Of a PostgreSQL database."""
    where = end.connection
    account = f"{where['username']}:{where['password']}@{where['host']}:{where['port']}"
    return f"postgresql://{account}/{where['database']}?sslmode=disable"


_DATABASES = ("postgres->postgres", "postgres->duckdb", "postgres->postgres:changes")
_TO_PARQUET = ("postgres->parquet", "mysql->parquet", "sqlite->parquet")

DLT = Peer(
    "dlt",
    (
        "dlt[postgres,duckdb,parquet,sql_database]==1.31.0", "connectorx==0.4.6", "pymysql==1.2.4",
        "adbc-driver-postgresql==1.13.0", "pandas==3.1.1",
    ),
    "sql_table with the pyarrow backend (SQLite: connectorx), rest_api; Parquet in between, loaded by ADBC",
    frozenset({*_DATABASES, *_TO_PARQUET, "parquet->postgres", "http->duckdb"}),
    _script("peers/with_dlt"),
)  # fmt: skip
INGESTR = Peer(
    "ingestr",
    ("ingestr==0.15.9",),
    "ingestr ingest with its defaults, uuids as text (it fails otherwise), told from where on to merge; "
    "the last version whose program is in its package; for DuckDB it downloads one from elsewhere",
    frozenset({"postgres->postgres", "postgres->postgres:changes"}),
    _ingestr,
)
SLING = Peer(
    "sling",
    ("sling==1.4.11", "sling-linux-amd64==1.4.11"),
    "sling run with its defaults, the last version whose program is in a package; it writes Parquet and "
    "DuckDB by DuckDB's own program, which it downloads from elsewhere",
    frozenset({"postgres->postgres", "postgres->postgres:changes"}),
    _sling,
)
CONNECTORX = Peer(
    "connectorx",
    ("connectorx==0.4.6", "pyarrow==26.0.1", "duckdb==2.0.0"),
    "read_sql as a stream of Arrow batches, written by pyarrow or inserted by DuckDB",
    frozenset({"postgres->duckdb", *_TO_PARQUET}),
    _script("peers/with_connectorx"),
)
SCANNER = Peer(
    "duckdb scanner",
    (
        "duckdb==1.5.5", "duckdb-extension-postgres-scanner==1.5.5",
        "duckdb-extension-mysql-scanner==1.5.5", "duckdb-extension-sqlite-scanner==1.5.5", "pytz",
    ),
    "ATTACH, then COPY or CREATE TABLE AS; two threads",
    frozenset({"postgres->postgres", "postgres->duckdb", *_TO_PARQUET, "parquet->postgres"}),
    _script("peers/with_duckdb"),
)  # fmt: skip
PANDAS = Peer(
    "pandas",
    (
        "pandas==3.1.1", "sqlalchemy==2.1.9", "psycopg[binary]==3.3.9", "pymysql==1.2.4", "requests==2.34.2",
        "pyarrow==26.0.1", "duckdb==2.0.0",
    ),
    "read_sql in chunks on a server-side cursor, to_sql or to Parquet; requests",
    frozenset(
        {"postgres->postgres", "postgres->duckdb", *_TO_PARQUET, "parquet->postgres", "http->duckdb"}
    ),
    _script("peers/with_pandas"),
)  # fmt: skip

PEERS: tuple[Peer, ...] = (DLT, INGESTR, SLING, CONNECTORX, SCANNER, PANDAS)
