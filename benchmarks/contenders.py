"""Who runs a path: Atlas, Atlas in one commit, and the path's limit. A peer is one more in CONTENDERS."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Protocol

from benchmarks import data
from benchmarks.ends import End, Setting
from benchmarks.measure import Command
from benchmarks.paths import Path

_PASSWORDS = {
    "source": "ATLAS_BENCHMARK_SOURCE_PASSWORD",
    "destination": "ATLAS_BENCHMARK_DESTINATION_PASSWORD",
}


class WrongResultError(Exception):
    """A contender ended well and did not do the work."""


class Contender(Protocol):
    """A program that copies the wide table."""

    name: str

    def prepare(self, path: Path, setting: Setting) -> Sequence[Command]:
        """What is run before, unmeasured; files that the program needs go to the setting's folder."""

    def command(self, path: Path, setting: Setting) -> Command | None:
        """What is measured; None where the program cannot run this path."""

    def check(self, stdout: str, rows: int) -> None:
        """Raises WrongResultError where what it says shows that not every row was moved."""


class Atlas:
    """`atlas connector sync` in a new project, as a user's shell would start it; with more keys perhaps."""

    def __init__(self, name: str = "atlas", partitions: int = 1, **keys: object) -> None:
        self.name = name
        self._partitions = partitions
        self._keys = keys

    def prepare(self, path: Path, setting: Setting) -> Sequence[Command]:
        self._write_project(path, setting)
        if path.load == "append":
            return ()
        return self.command(path, setting), self._atlas(setting, "state", "reset", "shop")

    def command(self, path: Path, setting: Setting) -> Command:  # noqa: ARG002
        return self._atlas(setting, "connector", "sync", "shop", "--json")

    def check(self, stdout: str, rows: int) -> None:
        run = json.loads(stdout)["runs"][0]
        read = run["streams"][0]["rows_read"]
        if (run["status"], read) != ("completed", rows):
            raise WrongResultError(f"{run['status']} with {read} of {rows} rows")

    def _write_project(self, path: Path, setting: Setting) -> None:
        stream = {**setting.source.stream, **_dispositions(path), "partitions": self._partitions}
        definition = {
            "protocol": setting.source.protocol,
            "connection": _without_password(setting.source, "source"),
            "streams": [stream],
            **self._keys,
        }
        target = {
            "protocol": setting.destination.protocol,
            **_without_password(setting.destination, "destination"),
        }
        folder = setting.folder / "connectors.d"
        folder.mkdir()
        (folder / "shop.yaml").write_text(json.dumps(definition), encoding="utf-8")  # JSON is YAML
        project = {"destinations": {"warehouse": target}}
        (setting.folder / "atlas.yaml").write_text(json.dumps(project), encoding="utf-8")

    def _atlas(self, setting: Setting, *arguments: str) -> Command:
        passwords = {
            _PASSWORDS[which]: str(end.connection["password"])
            for which, end in (("source", setting.source), ("destination", setting.destination))
            if "password" in end.connection
        }
        return Command((sys.executable, "-m", "atlas_etl", "-q", *arguments), setting.folder, passwords)


class LimitOf:
    """The path's own limit, where it has one and its program is here."""

    name = "limit"

    def prepare(self, path: Path, setting: Setting) -> Sequence[Command]:  # noqa: ARG002
        return ()

    def command(self, path: Path, setting: Setting) -> Command | None:
        if path.limit is None or shutil.which(path.limit.program) is None:
            return None
        return path.limit.command(setting)

    def check(self, stdout: str, rows: int) -> None:
        """A limit says nothing; its exit code tells."""


_ENDLESS = {"rows": 10**15, "bytes": 10**15}

CONTENDERS: tuple[Contender, ...] = (
    Atlas(),
    Atlas("one commit", window=_ENDLESS),
    Atlas("2 partitions", 2),
    Atlas("4 partitions", 4),
    LimitOf(),
)


def _dispositions(path: Path) -> dict[str, object]:
    merges = {"primary_key": [data.KEY]} if path.load == "merge" else {}
    return {"cursor": path.cursor, "disposition": path.load, **merges}


def _without_password(end: End, which: str) -> dict[str, str | int]:
    reference = f"${{env:{_PASSWORDS[which]}}}"
    return {key: reference if key == "password" else value for key, value in end.connection.items()}
