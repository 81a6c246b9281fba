"""A project with canary secrets in it, and an API that repeats whatever it is told."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest
from werkzeug import Request, Response

from atlas_etl.cli.app import run
from atlas_etl.redactor import forget
from tests.canaries import Canaries, files_below
from tests.project import Project

CLOSED = 1  # a port that nobody listens on


@dataclass
class Cage:
    """A project with canaries in it, the commands that are tried there, and what they said."""

    project: Project
    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]
    canaries: Canaries = field(default_factory=Canaries)
    environ: dict[str, str] = field(default_factory=dict)
    said: dict[str, bytes] = field(default_factory=dict)
    codes: set[int] = field(default_factory=set)
    own: list[Path] = field(default_factory=list)

    def write(self, path: str, content: object) -> Path:
        """A file that may hold canaries: JSON, which is YAML, too."""
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        file = self.project.write(path, text)
        file.chmod(0o600)
        self.own.append(file)
        return file

    def define(self, name: str, protocol: str, connection: object, streams: object) -> None:
        definition = {
            "protocol": protocol,
            "connection": connection,
            "streams": streams,
            "retry": {"attempts": 1},
        }
        self.write(f"connectors.d/{name}.yaml", definition)

    def atlas(self, *arguments: str, stdin: str = "") -> int:
        """The command in this process, as one that knows no secret yet."""
        forget()
        with self.monkeypatch.context() as changed:
            changed.chdir(self.project.folder)
            changed.setattr(sys, "stdin", io.StringIO(stdin))
            for name in [name for name in os.environ if name.startswith("ATLAS_")]:
                changed.delenv(name)
            for name, text in self.environ.items():
                changed.setenv(name, text)
            code = run([*arguments])
        out, err = self.capfd.readouterr()
        number = len(self.said)
        self.said[f"{number} stdout of {' '.join(arguments[:3])}"] = out.encode("utf-8", "surrogateescape")
        self.said[f"{number} stderr of {' '.join(arguments[:3])}"] = err.encode("utf-8", "surrogateescape")
        self.codes.add(code)
        return code

    def try_everything(self, *names: str) -> None:
        """Each command that touches a connector, at -vv, for people and for machines."""
        for name in names:
            for command in (
                ("connector", "test", name), ("connector", "discover", name), ("connector", "preview", name),
                ("connector", "plan", name), ("connector", "sync", name), ("connector", "verify", name),
                ("connector", "show", name), ("config", "show", name, "--origin"), ("state", "show", name),
                ("connector", "doctor", name), ("connector", "scan", name), ("state", "history", name),
                ("connector", "test", name, "--deep"), ("watch", name, "--json"),
            ):  # fmt: skip
                self.atlas(*command, "-vv")
            self.atlas("connector", "sync", name, "-vv", "--json", "--log-format", "json")
            self.atlas("connector", "test", name, "--json")
        for command in (
            ("connector", "history", "--json"), ("connector", "list", "--json"), ("config", "check"),
            ("config", "show", "--origin"), ("audit", "--json"), ("schedule", "status", "--json"),
            ("secret", "list"), ("quarantine", "list", "--json"), ("query", "SELECT nothing"),
            ("connector", "history", "--verifications"), ("report",), ("schedule", "next"),
            ("schedule", "export", "--to", "crontab"),
        ):  # fmt: skip
            self.atlas(*command, "-vv")

    def leaks(self) -> str:
        """A line for each."""
        return "\n".join(self.canaries.found({**self.said, **files_below(self.project.folder, self.own)}))


def kept(cage: Cage, kind: str, place: str, *, odd: bool = True) -> str:
    """A canary where this kind of reference finds it, and the reference."""
    canary = cage.canaries.at(f"{place} {kind}", odd=odd)
    name = f"{place}_{kind}".replace(" ", "_").replace("-", "_").upper()
    if kind == "literal":
        return canary.replace("${", "$${")
    if kind == "default":
        return f"${{env:NOT_SET_ANYWHERE:-{canary}}}"
    if kind == "env":
        cage.environ[name] = canary
        return f"${{env:{name}}}"
    if kind == "secret":
        assert cage.atlas("secret", "set", f"kept/{name}", stdin=canary) == 0
        return f"${{secret:kept/{name}}}"
    file = cage.write(f"kept/{name}", canary)
    return f"${{file:{file}}}" if kind == "file" else f"${{cmd:cat {file}}}"


@dataclass
class Parrot:
    """An API that answers with whatever it was sent, in one of many ways."""

    how: str = "401"

    def __call__(self, request: Request) -> Response:
        heard = {
            "method": request.method,
            "url": request.url,
            "headers": dict(request.headers),
            "body": request.get_data(as_text=True),
            "authorization": str(request.authorization),
        }
        text = json.dumps({"error": heard, "error_description": json.dumps(heard), "message": str(heard)})
        if self.how.isdigit():
            return Response(text, status=int(self.how), content_type="application/json")
        if self.how == "redirect":
            return Response(
                text, status=302, headers={"Location": f"http://localhost:{CLOSED}/?{quote(text)}"}
            )
        if self.how == "login":
            return Response(json.dumps({"error": text, "error_description": text}), status=400)
        if self.how == "no json":
            return Response(f"<html>{text}", status=200, content_type="text/html")
        if self.how == "half":
            return Response(text[:-9], status=200, content_type="application/json")
        if self.how == "encoding":
            return Response(text, status=200, headers={"Content-Encoding": "gzip"})
        if self.how.startswith("fault"):
            fault = (
                f"<e:Fault><faultcode>e:Client</faultcode><faultstring>{escape(text)}</faultstring></e:Fault>"
            )
            envelope = f'<e:Envelope xmlns:e="{_ENVELOPE}"><e:Body>{fault}</e:Body></e:Envelope>'
            status = 200 if self.how.endswith("200") else 500
            return Response(envelope, status=status, content_type="text/xml; charset=utf-8")
        if self.how == "rows":
            return Response(json.dumps([{"id": 1, "heard": text}]), content_type="application/json")
        if self.how == "garbage":
            return Response(f"{text}\0\x1b[31m{{", content_type="application/json")
        return Response(json.dumps({"errors": [{"message": text}]}))


WAYS = ("401", "403", "404", "500", "redirect", "login", "no json", "half", "encoding")
_ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"


def deadline(what: str, seconds: float) -> Iterator[None]:
    """Looks until the caller is content; raises AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)
    raise AssertionError(what)


def descendants(process: int) -> set[int]:
    """A process and all that it, or one of these, started."""
    found = {process}
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found
