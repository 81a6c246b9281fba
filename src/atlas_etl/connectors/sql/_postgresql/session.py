"""Sessions of PostgreSQL: opened, kept for a while to be used again, and given up."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import psycopg
from psycopg import pq
from sqlalchemy import Engine, create_engine, event

from atlas_etl.connectors.sql._lock_waits import watch
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._postgresql.connection import LIBPQ, PostgresConnection
from atlas_etl.connectors.sql._postgresql.errors import refused, translated
from atlas_etl.connectors.sql._postgresql.waits import WaitingCursor, WaitingSession
from atlas_etl.connectors.sql._tunnel import LOOPBACK, Route
from atlas_etl.errors import ConfigError, InterruptedRunError, SourceError, nearest

Session = psycopg.Connection[tuple[object, ...]]

_MAX_IDLE_SECONDS = 60.0


def route_to(config: PostgresConnection, kind: Failure) -> Route:
    """The way to the server, for its sessions to share."""
    return Route(config, config.port or 5432, kind)


def _parameters(config: PostgresConnection, route: Route) -> dict[str, str]:
    """What psycopg.connect takes to go this way; certificates are still compared with `host`."""
    port = route.local_port()
    through = {} if port is None else {"hostaddr": LOOPBACK, "port": str(port)}
    return config.libpq_parameters() | through


def open_session(config: PostgresConnection, kind: Failure, route: Route) -> Session:
    """A session whose transactions are begun and ended by statements. Raises `kind` and ConfigError."""
    parameters = _parameters(config, route)
    try:
        session = WaitingSession.connect(
            **parameters,  # type: ignore[arg-type]  # libpq takes every one as text
            autocommit=True,
            cursor_factory=WaitingCursor,
        )
    except psycopg.Error as failure:
        meant = refused(failure, kind)
        # The driver's error holds the password: it must not travel along as the cause.
        raise (meant.retryable and route.refusal()) or meant from None
    _refuse_unknown_settings(session, config, kind)
    watch(session)
    return session


def _refuse_unknown_settings(session: Session, config: PostgresConnection, kind: Failure) -> None:
    wanted = [
        name for name in config.server_settings() if "." not in name
    ]  # extensions' own are never refused
    if not wanted:
        return
    with translated(kind, session):
        known = {str(row[0]).lower() for row in session.execute("SELECT name FROM pg_catalog.pg_settings")}
    for name in wanted:
        if name.lower() not in known:
            session.close()
            raise ConfigError(
                f"option {name!r} is neither a connection parameter of libpq nor a setting of the server",
                hint=nearest(name, [*known, *LIBPQ]),
                code="option",
            )


def engine(config: PostgresConnection) -> Engine:
    """A SQLAlchemy engine; its URL has neither the server nor the password in it."""

    route = route_to(config, SourceError)

    def connect() -> psycopg.Connection:
        session = psycopg.connect(**_parameters(config, route))  # type: ignore[arg-type]
        for name, value in config.server_settings().items():
            session.execute("SELECT set_config(%s, %s, false)", (name, value))
        session.commit()
        return session

    made = create_engine("postgresql+psycopg://", creator=connect, hide_parameters=True)
    event.listen(made, "engine_disposed", lambda _: route.close())
    return made


def dispose(client: object) -> None:
    """Give back every connection of an engine."""
    cast(Engine, client).dispose()


def rendered(session: Session, statement: str, parameters: tuple[object, ...] = ()) -> str:
    """The statement with its parameters as the driver's literals, and each `%%` as `%`."""
    return psycopg.ClientCursor(session).mogrify(statement.encode(), parameters)


INTERRUPTIONS: tuple[type[BaseException], ...] = (InterruptedRunError, KeyboardInterrupt, SystemExit)
ENDS = (*INTERRUPTIONS, GeneratorExit)  # of a block: an interruption elsewhere closes the generators in it


@contextmanager
def given_up(session: Session, by: tuple[type[BaseException], ...] = INTERRUPTIONS) -> Iterator[None]:
    """Close the session where the block ends by one of these.

    The driver would wait for the server to end what is running: for as long as the network is silent.
    """
    try:
        yield
    except by:
        session.close()
        raise


class SessionPool:
    """Sessions that are idle, to be used again; any number may be out at once."""

    def __init__(self, config: PostgresConnection, kind: Failure) -> None:
        self.config = config
        self.kind = kind
        self._route = route_to(config, kind)
        self._idle: deque[tuple[Session, float]] = deque()  # append and pop are atomic
        self._closed = False

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for one transaction, rolled back when the block is left."""
        session = self._take() or open_session(self.config, self.kind, self._route)
        try:
            with given_up(session, ENDS):
                yield session
        finally:
            with suppress(psycopg.Error):
                session.rollback()
            idle = not session.closed and session.info.transaction_status is pq.TransactionStatus.IDLE
            if self._closed or not idle:
                session.close()
            else:
                self._idle.append((session, time.monotonic()))

    def close(self) -> None:
        """Close what is idle now, and what is out as soon as it comes back; at once where a tunnel is."""
        self._closed = True
        while (idle := self._pop()) is not None:
            idle[0].close()
        self._route.close()

    def _take(self) -> Session | None:
        while (idle := self._pop()) is not None:
            session, since = idle
            # A server that has something to say to an idle session says goodbye.
            if not session.closed and not _speaks(session) and time.monotonic() - since < _MAX_IDLE_SECONDS:
                return session
            session.close()
        return None

    def _pop(self) -> tuple[Session, float] | None:
        try:
            return self._idle.pop()
        except IndexError:  # another thread may take the last one between a look and a pop
            return None


def _speaks(session: Session) -> bool:
    poll = select.poll()
    poll.register(session.fileno(), select.POLLIN)
    return bool(poll.poll(0))
