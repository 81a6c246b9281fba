"""What the looks for open transactions cost, beside a SELECT 1: `python -m benchmarks.guards`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median, quantiles

from pydantic import SecretStr
from tests.servers import Unavailable

from atlas_etl.connectors.sql._mysql import open_writers as mysql_open_writers
from atlas_etl.connectors.sql._mysql.connection import MySQLConnection, Server
from atlas_etl.connectors.sql._mysql.session import READING, Session
from atlas_etl.connectors.sql._postgresql import snapshot as postgresql_snapshot
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._postgresql.session import open_session, route_to
from atlas_etl.errors import SourceError
from benchmarks.ends import Place

_TIMES = 200
_PAUSE_SECONDS = 0.15  # InnoDB renews its list of transactions after nobody has read it for 0.1 seconds


def main() -> int:
    """Measure each server that is here; 1 where there is none."""
    measured = 0
    with Place(seed=1) as place:
        for name, measure in (("PostgreSQL", _postgresql), ("MariaDB", _mysql)):
            try:
                look, nothing = measure(place)
            except Unavailable as missing:
                sys.stderr.write(f"skipped {name}: {missing}\n")
                continue
            measured += 1
            sys.stdout.write(
                f"{name}: a look takes {median(look):.2f} ms (95%: {quantiles(look, n=20)[-1]:.2f} ms), "
                f"SELECT 1 takes {median(nothing):.2f} ms; medians of {_TIMES}\n"
            )
    return 0 if measured else 1


def _postgresql(place: Place) -> tuple[list[float], list[float]]:
    with place.postgres_database() as address:
        config = PostgresConnection(
            host=address.host, port=address.port, username=address.username,
            password=SecretStr(address.password), database=address.database,
        )  # fmt: skip
        session = open_session(config, SourceError, route_to(config, SourceError))
        try:
            look = f"BEGIN READ ONLY; {postgresql_snapshot._WRITERS}; COMMIT".encode()
            return _timed(lambda: session.execute(look)), _timed(lambda: session.execute(b"SELECT 1"))
        finally:
            session.close()


def _mysql(place: Place) -> tuple[list[float], list[float]]:
    with place.mysql_database() as address:
        config = MySQLConnection(
            host=address.host, port=address.port, username=address.username,
            password=SecretStr(address.password), database=address.database,
        )  # fmt: skip
        session = Session(Server(config, SourceError), sql_mode=READING)
        try:
            look = _timed(lambda: mysql_open_writers._probe(session), pause=_PAUSE_SECONDS)
            return look, _timed(lambda: session.rows("SELECT 1"))
        finally:
            session.close()


def _timed(work: Callable[[], object], *, pause: float = 0.0) -> list[float]:
    took = []
    for _ in range(_TIMES):
        time.sleep(pause)
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return took


if __name__ == "__main__":
    sys.exit(main())
