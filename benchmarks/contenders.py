"""Who runs a path: Atlas, and the path's limit. A peer is one more class in CONTENDERS."""

from __future__ import annotations

import json
import sys
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
    """A program that copies the wide table once."""

    name: str

    def command(self, path: Path, setting: Setting) -> Command | None:
        """How it runs this path, files written into the setting's folder; None where it cannot."""

    def check(self, stdout: str, rows: int) -> None:
        """Raises WrongResultError where what it says shows that not every row was moved."""


class Atlas:
    """`atlas connector sync` in a new project, as a user's shell would start it."""

    name = "atlas"

    def command(self, path: Path, setting: Setting) -> Command:
        stream = {**setting.source.stream, **_dispositions(path)}
        definition = {
            "protocol": setting.source.protocol,
            "connection": _without_password(setting.source, "source"),
            "streams": [stream],
            "destination": "warehouse",
        }
        destination = setting.destination
        target = {"protocol": destination.protocol, **_without_password(destination, "destination")}
        folder = setting.folder / "connectors.d"
        folder.mkdir()
        (folder / "shop.yaml").write_text(json.dumps(definition), encoding="utf-8")  # JSON is YAML
        project = {"destinations": {"warehouse": target}}
        (setting.folder / "atlas.yaml").write_text(json.dumps(project), encoding="utf-8")
        passwords = {
            _PASSWORDS[which]: str(end.connection["password"])
            for which, end in (("source", setting.source), ("destination", destination))
            if "password" in end.connection
        }
        program = (sys.executable, "-m", "atlas_etl", "-q", "connector", "sync", "shop", "--json")
        return Command(program, setting.folder, passwords)

    def check(self, stdout: str, rows: int) -> None:
        run = json.loads(stdout)["runs"][0]
        if (run["status"], run["rows_processed"]) != ("completed", rows):
            raise WrongResultError(f"{run['status']} with {run['rows_processed']} of {rows} rows")


class LimitOf:
    """The path's own limit, where it has one."""

    name = "limit"

    def command(self, path: Path, setting: Setting) -> Command | None:
        return path.limit.command(setting) if path.limit else None

    def check(self, stdout: str, rows: int) -> None:
        """A limit says nothing; its exit code tells."""


CONTENDERS: tuple[Contender, ...] = (Atlas(), LimitOf())


def _dispositions(path: Path) -> dict[str, object]:
    match path.load:
        case "append":
            return {"cursor": data.CURSOR, "disposition": "append"}
        case "merge":
            return {"cursor": data.CURSOR, "primary_key": [data.KEY], "disposition": "merge"}
        case "replace":
            return {"disposition": "replace"}


def _without_password(end: End, which: str) -> dict[str, str | int]:
    reference = f"${{env:{_PASSWORDS[which]}}}"
    return {key: reference if key == "password" else value for key, value in end.connection.items()}
