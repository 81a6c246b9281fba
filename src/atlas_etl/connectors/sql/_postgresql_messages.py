"""The messages of one COPY TO STDOUT, a row each, gathered until they are enough for a batch.

What libpq already holds is taken from it directly, which halves the cost of the driver's own iteration; the
driver waits for more and sees the end (https://www.postgresql.org/docs/current/libpq-copy.html).
"""

from __future__ import annotations

import psycopg
from psycopg import errors, pq
from psycopg.abc import Buffer

from atlas_etl.connectors.sql._pgcopy_types import TRAILER
from atlas_etl.model import BatchLimits


class CopyMessages:
    """Reads a COPY in binary format. Raises psycopg.Error."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy
        self._pgconn = copy.connection.pgconn
        self.ended = False

    def gather(self, limits: BatchLimits) -> list[bytes]:
        """The next messages, of about `limits.bytes` and at most `limits.rows`; none at the end."""
        held = self._pgconn.get_copy_data
        messages: list[bytes] = []
        size = 0
        while size < limits.bytes and len(messages) < limits.rows and not self.ended:
            message: Buffer
            length, message = held(1)
            if length < 0:
                self.ended = True
                self._raise_failure()
                break
            if length == 0:
                message = self._copy.read()
                length = len(message)
                if length == 0:
                    self.ended = True
                    break
            messages.append(bytes(message))  # a memoryview is one more object for the garbage collector
            size += length
            if length == len(TRAILER) and message == TRAILER:
                self.ended = True
                self._copy.read()  # the statement's end, or what went wrong at last
        return messages

    def _raise_failure(self) -> None:
        """The stream broke off before its trailer: the results tell why."""
        failures = [
            errors.error_from_result(result)
            for result in iter(self._pgconn.get_result, None)
            if result.status != pq.ExecStatus.COMMAND_OK
        ]
        if failures:
            raise failures[0]
