"""Who runs a path: Atlas, Atlas in one commit, the path's limit, the same by hand; peers are in peers/."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from benchmarks.ends import ChangingPostgresSource, End, Setting
from benchmarks.limits import Limit
from benchmarks.measure import Command
from benchmarks.paths import Path

_PASSWORDS = {
    "source": "ATLAS_BENCHMARK_SOURCE_PASSWORD",
    "destination": "ATLAS_BENCHMARK_DESTINATION_PASSWORD",
}


class Contender(Protocol):
    """A program that copies a table."""

    @property
    def name(self) -> str: ...

    def prepare(self, path: Path, setting: Setting) -> Sequence[Command]:
        """What is run before, unmeasured; files that the program needs go to the setting's folder."""

    def command(self, path: Path, setting: Setting) -> Command | None:
        """What is measured; None where the program cannot run this path."""

    def copies(self, path: Path) -> bool:
        """Whether every row must be at the destination afterwards: a limit may only read."""


class Atlas:
    """`atlas connector sync` in a new project, as a user's shell would start it; with more keys perhaps."""

    def __init__(
        self,
        name: str = "atlas",
        stream: Mapping[str, object] | None = None,
        **keys: object,
    ) -> None:
        """`stream` are keys of the stream, the others the connector's."""
        self.name = name
        self._of_stream = stream or {}
        self._keys = keys

    def prepare(self, path: Path, setting: Setting) -> Sequence[Command]:
        self._write_project(path, setting)
        first = self.command(path, setting)
        match path.load:
            case "append":
                return ()
            case "merge":
                return first, self._atlas(setting, "state", "reset", "shop")
            case "changes":
                return first, ChangingPostgresSource().change(setting.source, setting.folder)

    def command(self, path: Path, setting: Setting) -> Command:  # noqa: ARG002
        return self._atlas(setting, "connector", "sync", "shop")

    def copies(self, path: Path) -> bool:  # noqa: ARG002
        return True

    def _write_project(self, path: Path, setting: Setting) -> None:
        schema = setting.destination.schema
        into = {"into": {"schema": schema, "table": path.table.name}} if schema else {}
        stream = {**setting.source.stream, **into, **_dispositions(path), **self._of_stream}
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


class Held:
    """What a path is held against, where it is and its program is here."""

    def __init__(self, name: str, limit_of: Callable[[Path], Limit | None]) -> None:
        self.name = name
        self._limit_of = limit_of

    def prepare(self, path: Path, setting: Setting) -> Sequence[Command]:
        limit = self._limit_of(path)
        return limit.before(setting) if limit else ()

    def command(self, path: Path, setting: Setting) -> Command | None:
        limit = self._limit_of(path)
        if limit is None or shutil.which(limit.program) is None:
            return None
        return limit.command(setting)

    def copies(self, path: Path) -> bool:
        limit = self._limit_of(path)
        return limit is not None and limit.copies


# Of the wide table: 50,000 different values, as many as rows, 97, as many as rows, a million.
_TEXTS = ("sku", "customer", "note", "uid", "region")
_FIVE_RULES = {
    "sku": "hash",
    "customer": "hash",
    "note": "mask",
    "uid": "tokenize",
    "region": {"mask": {"keep_last": 2}},
}
_ENDLESS = {"rows": 10**15, "bytes": 10**15}

CONTENDERS: tuple[Contender, ...] = (
    Atlas(),
    Atlas("one commit", window=_ENDLESS),
    Atlas("1 partition", {"partitions": 1}),
    Atlas("2 partitions", {"partitions": 2}),
    Atlas("4 partitions", {"partitions": 4}),
    Atlas("five masks", {"protect": {key: {"mask": {"keep_last": 4}} for key in _TEXTS}}),
    Atlas("five rules", {"protect": _FIVE_RULES}),
    Atlas("five hashes", {"protect": dict.fromkeys(_TEXTS, "hash")}),
    Held("limit", lambda path: path.limit),
    Held("by hand", lambda path: path.by_hand),
)


def _dispositions(path: Path) -> dict[str, object]:
    table = path.table
    disposition = "append" if path.load == "append" else "merge"
    merges = {"primary_key": list(table.key)} if disposition == "merge" else {}
    cursor = path.cursor or table.cursor
    return {**({"cursor": cursor} if cursor else {}), "disposition": disposition, **merges}


def _without_password(end: End, which: str) -> dict[str, object]:
    reference = f"${{env:{_PASSWORDS[which]}}}"
    return {key: reference if key == "password" else value for key, value in end.connection.items()}
