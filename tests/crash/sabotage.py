"""Runs `atlas` and disturbs it at a named point: `python -m tests.crash.sabotage PLAN connector sync c`.

Production code knows nothing of this: the methods of a destination are wrapped here, before the command
begins. PLAN is a Plan as JSON. Points are counted by kind:

- `commit`: what makes a load true (SQL's COMMIT, the rename of a manifest), and any commit beside it
- `step`: every statement, batch, rename, fsync and delete of the destination, commits among them
- `state`: what changes the state store: the lease taken, the run finished, the lease given back
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.contracts import NO_CHANGE
from atlas_etl.errors import RefusedRowError
from atlas_etl.model import Checkpoint, LoadPlan, LoadResult, QuarantineChange

_SQL, _FILES = "atlas_etl.connectors.sql", "atlas_etl.connectors.files"
_STATEMENTS = ("begin", "execute", "ingest", "commit")


@dataclass(frozen=True, slots=True)
class _Methods:
    """Methods of a class, by the kinds of point that they are."""

    module: str
    owner: str  # empty: functions of the module
    names: tuple[str, ...]
    commits: tuple[str, ...] = ()


_FILE_METHODS = (
    _Methods(f"{_FILES}._store", "LocalStore", ("create", "rename", "settle", "delete")),
    _Methods(f"{_FILES}._store", "LocalNewFile", ("keep",)),
    _Methods(f"{_FILES}._folder", "StreamFolder", ("swap",), commits=("swap",)),
)
_DESTINATIONS: Mapping[str, tuple[_Methods, ...]] = {
    "duckdb": (_Methods(f"{_SQL}._duckdb.load", "LoadConnection", _STATEMENTS, ("commit",)),),
    "sqlite": (_Methods(f"{_SQL}._sqlite.writer", "SqliteWriter", _STATEMENTS, ("commit",)),),
    "postgresql": (_Methods(f"{_SQL}._postgresql.load", "LoadConnection", _STATEMENTS, ("commit",)),),
    "mysql": (_Methods(f"{_SQL}._mysql.load", "LoadConnection", _STATEMENTS, ("commit",)),),
    "mssql": (_Methods(f"{_SQL}._mssql.load", "LoadConnection", _STATEMENTS, ("commit",)),),
    "parquet": _FILE_METHODS,
    "jsonl": _FILE_METHODS,
    "csv": _FILE_METHODS,
}
_STATE = (
    _Methods("atlas_etl.state.store", "", ("acquire", "release")),
    _Methods("atlas_etl.state.store", "SqlStateStore", ("finish",)),
)


@dataclass(frozen=True, slots=True)
class Point:
    """Before or after the `number`th call (from 1) of a kind."""

    kind: str
    number: int
    side: str  # before, after

    def __str__(self) -> str:
        return f"{self.side} {self.kind} {self.number}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do to a sync into `destination`."""

    destination: str
    point: Point | None = None
    action: str = "kill"  # kill, terminate (SIGTERM), pause (until a line comes on standard input)
    broken: str | None = None  # a name in BROKEN
    counts: str | None = None  # a file that gets how many points there were, of each kind
    file_size: int | None = None  # RLIMIT_FSIZE

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Plan:
        found = json.loads(text)
        point = Point(**found.pop("point")) if found.get("point") else None
        return cls(**{**found, "point": point})


class Saboteur:
    """Counts points, and acts at one."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.seen: Counter[str] = Counter()

    def wrap(self, methods: _Methods, *kinds: str) -> None:
        module = importlib.import_module(methods.module)
        owner = getattr(module, methods.owner) if methods.owner else module
        for name in methods.names:
            counted = (*kinds, "commit") if name in methods.commits else kinds
            setattr(owner, name, self._wrapped(getattr(owner, name), counted))

    def _wrapped(self, method: Callable[..., Any], kinds: tuple[str, ...]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapped(*args: Any, **named: Any) -> Any:
            numbers = {}
            for kind in kinds:
                self.seen[kind] += 1
                numbers[kind] = self.seen[kind]
            self._meet(numbers, "before")
            try:
                return method(*args, **named)
            finally:
                self._meet(numbers, "after")

        return wrapped

    def _meet(self, numbers: Mapping[str, int], side: str) -> None:
        point = self._plan.point
        if point is None or point.side != side or numbers.get(point.kind) != point.number:
            return
        match self._plan.action:
            case "kill":
                os.killpg(os.getpgid(0), signal.SIGKILL)
            case "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
            case "pause":
                print("paused", flush=True)
                sys.stdin.readline()


class _Apart:
    """A destination that commits a load's checkpoint in a transaction of its own, before the rows."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[_Later]:
        yield _Later(self._real, plan)


class _Later:
    """A session that keeps its rows until their checkpoint is committed."""

    def __init__(self, real: Any, plan: LoadPlan) -> None:
        self._real = real
        self._plan = plan
        self._batches: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> dict[int, RefusedRowError]:
        self._batches.append(batch)
        return {}

    def commit(self, checkpoint: Checkpoint | None, quarantine: QuarantineChange = NO_CHANGE) -> LoadResult:
        plan = self._plan
        first = self._real.inspect(plan.connector, plan.stream, plan.table).checkpoint is None
        if not first:
            self._real.set_checkpoint(plan.connector, plan.stream, plan.table, checkpoint)
        with self._real.begin(plan) as session:
            for batch in self._batches:
                session.write(batch)
            result: LoadResult = session.commit(checkpoint if first else None, quarantine)
        return result


class _Keeping:
    """A destination that does not delete the tail before it appends."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def begin(self, plan: LoadPlan) -> Any:
        return self._real.begin(replace(plan, tail=None))


BROKEN: Mapping[str, Callable[[Any], Any]] = {"state saved apart": _Apart, "tail kept": _Keeping}


def _break(wrapper: Callable[[Any], Any]) -> None:
    from atlas_etl.api.prepared import PreparedDestination

    opened = PreparedDestination.open
    PreparedDestination.open = lambda self: wrapper(opened(self))  # type: ignore[method-assign]


def main() -> None:
    plan = Plan.read(sys.argv[1])
    if plan.file_size is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.file_size, plan.file_size))
    saboteur = Saboteur(plan)
    for methods in _DESTINATIONS[plan.destination]:
        saboteur.wrap(methods, "step")
    for methods in _STATE:
        saboteur.wrap(methods, "state")
    if plan.broken is not None:
        _break(BROKEN[plan.broken])
    from atlas_etl.cli.app import run

    code = run(sys.argv[2:])
    if plan.counts is not None:
        with open(plan.counts, "w", encoding="utf-8") as file:
            json.dump(saboteur.seen, file)
    sys.exit(code)


if __name__ == "__main__":
    main()
