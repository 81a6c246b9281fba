"""A cassette's file: vcrpy's YAML (version 1), one interaction appended after another.

A recording that is killed may leave half of an entry. The status stands last in one, and is asked for, so no
half of an entry looks like a whole one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from atlas_etl.connectors.http._messages import Response
from atlas_etl.errors import ConfigError, UsageError

_MODEL = ConfigDict(frozen=True, hide_input_in_errors=True)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class Interaction:
    """A request and its answer, both redacted."""

    method: str
    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    response: Response = field(repr=False)
    is_login: bool = False


class _Sent(BaseModel):
    model_config = _MODEL
    method: str
    uri: str
    body: str | bytes | None = None
    headers: dict[str, list[str]] = Field(default_factory=dict)


class _Status(BaseModel):
    model_config = _MODEL
    code: int
    message: str | None


class _Content(BaseModel):
    model_config = _MODEL
    string: str | bytes | None = None


class _Answered(BaseModel):
    model_config = _MODEL
    status: _Status
    headers: dict[str, list[str]] = Field(default_factory=dict)
    body: _Content


class _Recorded(BaseModel):
    model_config = _MODEL
    request: _Sent
    response: _Answered
    is_login: bool = False


class _File(BaseModel):
    model_config = _MODEL
    version: int = Field(ge=1, le=1)
    recorded_at: AwareDatetime
    interactions: list[_Recorded] | None = None


class CassetteWriter:
    """Appends interactions to a new file that only its owner may read. For several threads."""

    def __init__(self, path: Path, recorded_at: datetime) -> None:
        """Raises UsageError (`cassette`) where there is a file already, or none can be made."""
        try:
            self._file = os.fdopen(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            )
        except FileExistsError:
            raise UsageError(
                f"{path} is there already", hint="remove it, or record into another file", code="cassette"
            ) from None
        except OSError as failure:
            raise UsageError(f"{path} cannot be written: {failure.strerror}", code="cassette") from None
        self._lock = threading.Lock()
        self._file.write(f"version: 1\nrecorded_at: '{recorded_at.isoformat()}'\ninteractions:\n")
        self._file.flush()

    def append(self, interaction: Interaction) -> None:
        """Raises UsageError (`cassette`) where the disk is full or gone."""
        answer = interaction.response
        entry: dict[str, object] = {"is_login": True} if interaction.is_login else {}
        entry |= {
            "request": {
                "method": interaction.method,
                "uri": interaction.url,
                "body": _text(interaction.body) if interaction.body else None,
                "headers": {name: [value] for name, value in interaction.headers.items()},
            },
            "response": {
                "headers": {name: [value] for name, value in answer.headers.items()},
                "body": {"string": _text(answer.content)},
                "status": {"code": answer.status, "message": _phrase(answer.status)},
            },
        }
        written = yaml.dump([entry], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30)
        with self._lock:
            try:
                self._file.write(written)
                self._file.flush()
            except OSError as failure:
                raise UsageError(
                    f"the cassette cannot be written: {failure.strerror}", code="cassette"
                ) from None

    def close(self) -> None:
        with self._lock:
            self._file.close()


@dataclass(frozen=True, slots=True)
class Cassette:
    """What a file holds."""

    recorded_at: datetime
    interactions: tuple[Interaction, ...] = field(repr=False)
    is_cut: bool = False  # whether it ended within one more entry


def read_cassette(path: Path) -> Cassette:
    """Whatever a file has whole. Raises ConfigError (`cassette`) for a file that is none."""
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise ConfigError(f"{path} cannot be read: {failure.strerror}", code="cassette") from None
    before_last_entry = content[: content.rfind(b"\n-") + 1]
    for whole in (content, before_last_entry):
        try:
            found = _File.model_validate(yaml.load(whole, Loader=_Loader))  # noqa: S506  # a safe one
        except (yaml.YAMLError, ValidationError, UnicodeError):
            continue
        entries = tuple(map(_interaction, found.interactions or ()))
        return Cassette(found.recorded_at, entries, is_cut=whole is before_last_entry)
    raise ConfigError(
        f"{path} is no cassette",
        hint="make one with `atlas connector sync NAME --record FILE`",
        code="cassette",
    )


def _interaction(found: _Recorded) -> Interaction:
    sent, answered = found.request, found.response
    response = Response(
        answered.status.code,
        {name.lower(): ", ".join(values) for name, values in answered.headers.items()},
        _bytes(answered.body.string),
        sent.uri,
    )
    headers = {name: ", ".join(values) for name, values in sent.headers.items()}
    return Interaction(sent.method, sent.uri, _bytes(sent.body), headers, response, found.is_login)


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _bytes(content: str | bytes | None) -> bytes:
    return content.encode() if isinstance(content, str) else content or b""


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
