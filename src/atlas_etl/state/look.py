"""A state store that is only looked at: nothing in it is made or upgraded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import inspect, select

from atlas_etl.model import SealedSecret
from atlas_etl.state import schema
from atlas_etl.state.database import Database
from atlas_etl.state.migrate import version_of
from atlas_etl.state.secrets import sealed_secrets

_LONGEST_WAIT = 600.0  # seconds: for a request of another process, which fails by then


class StateLook:
    """What is there, as it is; `open.look_at_state` gives it. Raises StateError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def version(self) -> int:
        """0: there are no tables yet. Raises StateError (`state_foreign`), too."""
        with self._database.reading() as connection:
            return version_of(self._database, connection)

    def time(self) -> datetime:
        """The clock that all who share this store go by."""
        with self._database.reading() as connection:
            told: datetime = connection.execute(select(self._database.now())).scalar_one()
            return told

    def sealed(self) -> Mapping[str, SealedSecret]:
        """The secrets that are kept here; none where no version made their table yet."""
        with self._database.reading() as connection:
            tables = inspect(connection).get_table_names(schema=self._database.schema)
            if schema.secrets.name not in tables:
                return {}
            return sealed_secrets(self._database, connection)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Be the only one, of all who share this store, who does what has this name. Raises StateError."""
        with self._database.reading() as connection:
            self._database.lock_name(connection, name, longest_wait=_LONGEST_WAIT)
            yield

    def close(self) -> None:
        """Give back every connection; may be called twice."""
        self._database.engine.dispose()
