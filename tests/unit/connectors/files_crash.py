"""Kill a load at every step that it takes on disk, one process each, and see what is there afterwards.

Arguments: a folder, a protocol, a disposition. Prints, for each step, whether the rows of `before` or of
`after` the load were found; fails where it was neither, or where a further load does not go on from there.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from atlas_etl.connectors import registry
from atlas_etl.connectors.files import _store
from atlas_etl.connectors.files._parts import is_own_name
from atlas_etl.model import (
    Checkpoint,
    CreateTable,
    CursorKind,
    CursorValue,
    Disposition,
    LoadPlan,
    TableName,
)

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
STEPS = ("open", "fsync", "replace", "unlink", "mkdir", "close")
BEFORE = [(1, "a"), (2, "b")]
AFTER = {
    "append": [(1, "a"), (2, "B"), (3, "c")],
    "merge": [(1, "a"), (2, "B"), (3, "c")],
    "replace": [(2, "B"), (3, "c")],
}


class Steps:
    """The operating system as the store sees it, until the step at which the process dies."""

    def __init__(self, last: int) -> None:
        self._left = last

    def __getattr__(self, name: str) -> object:
        found = getattr(os, name)
        return self._counted(found) if name in STEPS else found

    def _counted(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            self._left -= 1
            if self._left < 0:
                os._exit(9)
            return call(*arguments, **options)

        return counted


def load(folder: Path, protocol: str, disposition: str, rows: list[tuple[int, str]], *, first: bool) -> None:
    destination = lake(folder, protocol)
    two = CursorValue(CursorKind.INTEGER, "2")
    tail = None if first or disposition != "append" else Checkpoint("id", two, two)
    plan = LoadPlan(
        "run", "shop", "orders", TableName("orders", "shop"), Disposition(disposition), SCHEMA, ("id",), "id",
        changes=(CreateTable(),) if first else (), tail=tail,
    )  # fmt: skip
    with destination.begin(plan) as session:
        session.write(pa.RecordBatch.from_pylist([{"id": i, "name": n} for i, n in rows], schema=SCHEMA))
        high = CursorValue(CursorKind.INTEGER, str(rows[-1][0]))
        session.commit(Checkpoint("id", high, high))


def lake(folder: Path, protocol: str) -> object:
    adapter = registry.load(protocol)
    return adapter.destination(adapter.connection.model_validate({"path": str(folder)}))


def found(folder: Path, protocol: str) -> tuple[list[tuple[int, str]], str]:
    destination = lake(folder, protocol)
    rows = destination.query("SELECT id, name FROM shop.orders ORDER BY id").to_pylist()
    state = destination.inspect("shop", "orders", TableName("orders", "shop"))
    return [(row["id"], row["name"]) for row in rows], state.checkpoint.high.text


def in_a_process(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as failure:
            print(repr(failure), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, protocol: str, disposition: str) -> None:
    start = folder / "start"
    changed = AFTER[disposition][-2:]
    assert in_a_process(lambda: load(start, protocol, "append", BEFORE, first=True)) == 0

    def killed_at(step: int, here: Path) -> None:
        _store.os = Steps(step)
        load(here, protocol, disposition, changed, first=False)

    def judge(here: Path) -> None:
        rows, high = found(here, protocol)
        outcome = {("2", tuple(BEFORE)): "before", ("3", tuple(AFTER[disposition])): "after"}
        print(outcome[high, tuple(rows)], flush=True)
        load(here, protocol, "replace", [(9, "z")], first=False)
        assert found(here, protocol) == ([(9, "z")], "9")
        ours = [name for name in os.listdir(here / "shop" / "orders") if is_own_name(name)]
        assert len(ours) == 1, ours

    for step in range(200):
        here = folder / str(step)
        shutil.copytree(start, here)
        died = in_a_process(lambda step=step, here=here: killed_at(step, here))
        assert died in (0, 9), died
        assert in_a_process(lambda here=here: judge(here)) == 0
        if died == 0:
            return
    raise AssertionError("the load never ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
