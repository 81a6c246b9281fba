"""The state store over SQL: runs, leases, mirrored checkpoints and their changes, alike in every database."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, delete, func, insert, select

from atlas_etl.contracts import Lease
from atlas_etl.errors import ExitCode, StateError
from atlas_etl.model import (
    Actor,
    Checkpoint,
    CheckpointAction,
    CheckpointChange,
    CommittedCheckpoint,
    LiveRun,
    Run,
    RunError,
    RunProgress,
    RunStatus,
)
from atlas_etl.state import changes, slots
from atlas_etl.state.audit import SqlAuditLog
from atlas_etl.state.column_types import UtcDateTime
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.health import SqlHealth
from atlas_etl.state.holder import this_actor, this_user
from atlas_etl.state.lease import HeldLease, LeaseTimes
from atlas_etl.state.leases import acquire, end_dead_runs, hold, live_runs, release
from atlas_etl.state.migrate import migrate
from atlas_etl.state.records import change_of, committed_of, new_run_id, run_of, run_values
from atlas_etl.state.schedule import SqlSchedule
from atlas_etl.state.schema import (
    checkpoint_changes,
    connector_state,
    connectors,
    latest_first,
    latest_first_position,
    leases,
    scheduled_runs,
)
from atlas_etl.state.secrets import SecretTable
from atlas_etl.state.summaries import SqlRunSummaries
from atlas_etl.state.verifications import SqlVerifications

log = logging.getLogger(__name__)


class SqlStateStore:
    """A StateStore (see contracts) in a database; made or upgraded when it is opened.

    Safe to share among threads. Raises StateError, which names the store and never a password.
    """

    def __init__(self, database: Database, times: LeaseTimes, actor: Actor | None = None) -> None:
        self._database = database
        self._times = times
        migrate(database)
        self.audit = SqlAuditLog(database, actor or this_actor(os.environ))
        self.schedule = SqlSchedule(database, times, self.audit)
        self.health = SqlHealth(database)
        self.summaries = SqlRunSummaries(database)
        self.verifications = SqlVerifications(database)
        self.secrets = SecretTable(database, self.audit)

    def time(self) -> datetime:
        """The clock that all who share this store go by."""
        with self._database.reading() as connection:
            told: datetime = connection.execute(select(self._database.now())).scalar_one()
            return told

    @contextmanager
    def lease(
        self,
        connector: str,
        *,
        triggered_by: str,
        destination: str | None,
        scheduled_at: datetime | None = None,
        progress: Callable[[], RunProgress] | None = None,
    ) -> Iterator[Lease]:
        """Begin a run, alone; see the contract.

        Left by KeyboardInterrupt, SystemExit or InterruptedRunError the run is `interrupted`, left by
        another exception `failed`, unless it was finished before.
        """
        held = acquire(
            self._database,
            self._times,
            connector,
            triggered_by,
            destination=destination,
            scheduled_at=scheduled_at,
            progress=progress,
        )
        with self._kept(held):
            yield held

    @contextmanager
    def hold(self, connector: str) -> Iterator[Lease]:
        with self._kept(hold(self._database, self._times, connector)) as held:
            yield held

    @contextmanager
    def _kept(self, held: HeldLease) -> Iterator[Lease]:
        held.start()
        try:
            yield held
        except BaseException as error:
            if held.held_here():
                held.stop()
                try:
                    release(self._database, held, error)
                except StateError as failure:  # the first error is the one to tell
                    log.warning("the lease of %s was not given back: %s", held.run.connector, failure.message)
            raise
        if held.held_here():
            held.stop()
            release(self._database, held, None)

    def finish(self, run: Run) -> None:
        """Record how a run ended; where a later run of its connector has begun, no checkpoint is mirrored."""
        with self._database.writing() as connection:
            lease = select(leases.c.token).where(leases.c.connector == run.connector).with_for_update()
            newest = connection.scalar(lease)
            own = connection.scalar(
                select(scheduled_runs.c.fencing_token).where(scheduled_runs.c.run_id == run.run_id)
            )
            connection.execute(self._database.upsert(scheduled_runs, run_values(run), ["run_id"]))
            slots.finish(connection, self.audit, run)
            if own is not None and newest is not None and own < newest:
                return
            committed_at = run.completed_at or datetime.now(UTC)
            for stream in run.streams:
                if stream.checkpoint is not None:
                    committed = CommittedCheckpoint(stream.name, stream.checkpoint, committed_at, run.run_id)
                    changes.mirror(
                        self._database, connection, self.audit, run.connector, committed, by=this_user()
                    )

    def record_skipped(
        self,
        connector: str,
        *,
        triggered_by: str,
        reason: str,
        scheduled_at: datetime | None = None,
        put_off_until: datetime | None = None,
    ) -> Run:
        now = datetime.now(UTC)
        run = Run(
            run_id=new_run_id(),
            connector=connector,
            status=RunStatus.SKIPPED,
            triggered_by=triggered_by,
            started_at=now,
            completed_at=now,
            error=RunError("skipped", reason, exit_code=int(ExitCode.LOCKED)),
            scheduled_at=scheduled_at,
        )
        with self._database.writing() as connection:
            if scheduled_at is not None and put_off_until is not None:
                slots.put_off(self._database, connection, connector, scheduled_at, put_off_until)
            elif scheduled_at is not None:
                slots.skip(self._database, connection, connector, scheduled_at, reason)
            connection.execute(insert(scheduled_runs).values(**run_values(run)))
        return run

    def history(
        self, connector: str | None = None, *, limit: int = 20, status: RunStatus | None = None
    ) -> Sequence[Run]:
        end_dead_runs(self._database)
        query = (
            select(scheduled_runs)
            .where(*_matching(connector, status))
            .order_by(*latest_first())
            .limit(max(limit, 0))
        )
        with self._database.reading() as connection, reading_content(self._database.name):
            return [run_of(row) for row in connection.execute(query)]

    def run(self, run_id: str) -> Run | None:
        query = select(scheduled_runs).where(scheduled_runs.c.run_id == run_id)
        with self._database.reading() as connection, reading_content(self._database.name):
            row = connection.execute(query).one_or_none()
            return None if row is None else run_of(row)

    def live(self, connector: str | None = None) -> Sequence[LiveRun]:
        end_dead_runs(self._database)
        return live_runs(self._database, connector)

    def last_completed(self) -> Mapping[str, datetime]:
        runs, ended = scheduled_runs.c, func.max(scheduled_runs.c.completed_at, type_=UtcDateTime())
        query = select(runs.connector, ended).where(runs.status == RunStatus.COMPLETED.value)
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(runs.connector))
            return {connector: at for connector, at in rows if at is not None}

    def count_runs(self, connector: str | None = None, *, status: RunStatus | None = None) -> int:
        end_dead_runs(self._database)
        query = select(func.count()).select_from(scheduled_runs).where(*_matching(connector, status))
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def mirror_checkpoint(self, connector: str, committed: CommittedCheckpoint) -> None:
        with self._database.writing() as connection:
            changes.mirror(self._database, connection, self.audit, connector, committed, by=None)

    def forget_checkpoint(self, connector: str, stream: str) -> None:
        with self._database.writing() as connection:
            changes.forget(connection, connector, stream)

    def change_checkpoint(
        self,
        connector: str,
        stream: str,
        action: CheckpointAction,
        checkpoint: Checkpoint | None,
        *,
        run_id: str,
        reason: str | None = None,
    ) -> None:
        with self._database.writing() as connection:
            changes.change(
                self._database,
                connection,
                self.audit,
                connector,
                stream,
                action=action,
                checkpoint=checkpoint,
                run_id=run_id,
                reason=reason,
            )

    def checkpoint_changes(
        self, connector: str, *, stream: str | None = None, limit: int = 20
    ) -> Sequence[CheckpointChange]:
        wanted = [checkpoint_changes.c.connector == connector]
        if stream is not None:
            wanted.append(checkpoint_changes.c.stream == stream)
        latest = select(checkpoint_changes).where(*wanted).order_by(checkpoint_changes.c.change_id.desc())
        with self._database.reading() as connection, reading_content(self._database.name):
            return [change_of(row) for row in connection.execute(latest.limit(max(limit, 0)))]

    def checkpoint_change(self, change_id: int) -> CheckpointChange | None:
        query = select(checkpoint_changes).where(checkpoint_changes.c.change_id == change_id)
        with self._database.reading() as connection, reading_content(self._database.name):
            row = connection.execute(query).one_or_none()
            return None if row is None else change_of(row)

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        """The mirrored checkpoints of one connector, by stream."""
        query = select(connector_state).where(connector_state.c.connector == connector)
        with self._database.reading() as connection, reading_content(self._database.name):
            found = [committed_of(row) for row in connection.execute(query)]
        return sorted(found, key=lambda committed: committed.stream)

    def register(self, connector: str, protocol: str, *, enabled: bool, schedule: str | None) -> None:
        values = {
            "name": connector,
            "protocol": protocol,
            "enabled": enabled,
            "schedule": schedule,
            "updated_at": datetime.now(UTC),
        }
        with self._database.writing() as connection:
            connection.execute(self._database.upsert(connectors, values, ["name"]))

    def unregister(self, connector: str) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(connectors).where(connectors.c.name == connector))
            slots.forget(connection, connector)
        self.health.forget([connector])

    def prune(self, before: datetime) -> int:
        """Delete runs completed before this instant, an aware datetime. Running ones stay."""
        self.health.prune(before)
        self.verifications.prune(before)
        return self._prune(scheduled_runs.c.completed_at < before)

    def keep_newest(self, runs: int) -> int:
        """Delete all but the newest runs of each connector; gives back how many. Running ones stay."""
        ranked = select(scheduled_runs.c.run_id, latest_first_position()).subquery()
        surplus = select(ranked.c.run_id).where(ranked.c.position > runs)
        return self._prune(scheduled_runs.c.completed_at.is_not(None), scheduled_runs.c.run_id.in_(surplus))

    def close(self) -> None:
        self._database.engine.dispose()

    def _prune(self, *old: ColumnElement[bool]) -> int:
        with self._database.writing() as connection:
            runs = connection.execute(delete(scheduled_runs).where(*old)).rowcount
            changes.prune(connection)
            slots.prune(connection)
        return runs


def _matching(connector: str | None, status: RunStatus | None) -> list[ColumnElement[bool]]:
    conditions = []
    if connector is not None:
        conditions.append(scheduled_runs.c.connector == connector)
    if status is not None:
        conditions.append(scheduled_runs.c.status == status.value)
    return conditions
