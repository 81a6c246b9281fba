"""The places that the state store's contract suite runs over, and processes that compete for a lease."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from atlas_etl.state import LeaseTimes, MemoryStateStore, SqlStateStore, open_state_store

SHORT = LeaseTimes(heartbeat=0.1, expiry=4.0)  # longer than a busy machine lets a living process rest
"""A dead run is given up after a second and a half."""

# Answers every line of its standard input; ends when that closes.
_PLAYER = """
import sys
from msgspec.structs import replace
from datetime import UTC, datetime
from atlas_etl.errors import LockedError
from atlas_etl.model import *
from atlas_etl.state import LeaseTimes, open_state_store

location, heartbeat, expiry = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
times = LeaseTimes(heartbeat, expiry)

def say(*words):
    print(*words, flush=True)

say("ready")
store = context = lease = None
for line in sys.stdin:
    command, _, argument = line.strip().partition(" ")
    if command == "open":
        store = open_state_store(argument or location, times=times)
        say("opened")
    elif command == "take":
        slot = datetime.fromisoformat(argument) if argument else None
        context = store.lease("shop", triggered_by="player", destination=None, scheduled_at=slot)
        try:
            lease = context.__enter__()
        except LockedError:
            say("locked")
        else:
            say("held", lease.token, lease.run.run_id)
    elif command == "lost":
        say(lease.lost())
    elif command == "finish":
        value = CursorValue(CursorKind.INTEGER, argument)
        stream = StreamRun("orders", RunStatus.COMPLETED, checkpoint=Checkpoint("id", value, value))
        store.finish(replace(
            lease.run, status=RunStatus.COMPLETED, completed_at=datetime.now(UTC), streams=(stream,)
        ))
        say("finished")
    elif command == "leave":
        context.__exit__(None, None, None)
        say("left")
"""


class Player:
    """A real process with a state store: `tell` gives it one command and returns its answer."""

    def __init__(self, location: str, times: LeaseTimes) -> None:
        arguments = [location, str(times.heartbeat), str(times.expiry)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PLAYER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, command: str) -> None:
        """Give a command without waiting for the answer, which `answer` gets."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        assert answer, "the player died: see its traceback"
        return answer

    def tell(self, command: str) -> str:
        self.order(command)
        return self.answer()


@dataclass(frozen=True)
class Place:
    """Where a state is that several processes share."""

    kind: str
    location: str

    def open(self, times: LeaseTimes | None = None) -> SqlStateStore:
        return open_state_store(self.location, times=times)

    @contextmanager
    def players(self, count: int, times: LeaseTimes = SHORT) -> Iterator[list[Player]]:
        """So many processes, imported and ready, none of which has opened the store."""
        players = [Player(self.location, times) for _ in range(count)]
        try:
            for player in players:
                assert player.answer() == "ready"
            yield players
        finally:
            for player in players:
                player.process.kill()
                player.process.communicate()

    @contextmanager
    def player(self, times: LeaseTimes = SHORT) -> Iterator[Player]:
        """One process that has opened the store."""
        with self.players(1, times) as (player,):
            assert player.tell("open") == "opened"
            yield player


def place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    if kind == "sqlite":
        return Place(kind, str(folder / ".atlas" / "state.db"))
    return Place(kind, request.getfixturevalue("postgres").url("postgresql"))


def store(kind: str, request: pytest.FixtureRequest, folder: Path, times: LeaseTimes) -> SqlStateStore:
    return MemoryStateStore(times=times) if kind == "memory" else place(kind, request, folder).open(times)
