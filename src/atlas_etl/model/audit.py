"""Who changed what: the lines of `atlas audit`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

Settings: TypeAlias = Mapping[str, object]
"""What a file of a project says, by dotted keys, in JSON's own types and without secrets."""


class AuditKind(StrEnum):
    """What was changed."""

    DEFINITION = "definition"
    SCHEDULE = "schedule"  # when and whether a connector runs, its dead letters included
    CHECKPOINT = "checkpoint"
    SECRET = "secret"  # noqa: S105  # by its name; no value
    BREAKER = "breaker"
    TOKEN = "token"  # noqa: S105  # of protected values that somebody asked to see; how many, and no value


class AuditAction(StrEnum):
    """What became of it."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    ENABLED = "enabled"
    DISABLED = "disabled"
    SET = "set"
    RESET = "reset"
    REPAIR = "repair"
    FULL_REFRESH = "full_refresh"
    ROTATED = "rotated"
    RETRIED = "retried"
    DROPPED = "dropped"
    OPENED = "opened"
    CLOSED = "closed"
    RESUMED = "resumed"
    REVEALED = "revealed"


class Actor(Struct, frozen=True):
    """A process that changes something, and the account that it runs as.

    `on_behalf_of` and `address` are what its environment claims (sudo, a CI system, SSH): whoever starts a
    process may have made that up.
    """

    user: str
    host: str
    pid: int
    command: str  # without its arguments, which may hold a secret
    on_behalf_of: str | None = None
    address: str | None = None


class Change(Struct, frozen=True):
    """What became of one thing. `before` and `after` hold only what differs, and no secret."""

    kind: AuditKind
    action: AuditAction
    connector: str | None = None
    subject: str | None = None  # the stream, the secret's name, the slot or the file
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    run_id: str | None = None
    reason: str | None = None


class AuditEntry(Struct, frozen=True):
    """A change, with who made it, when and from where.

    `outside`: it was made by other means than Atlas, some time before `at`, when `actor` found it.
    """

    entry_id: int  # greater than that of every entry before it
    at: datetime
    change: Change
    actor: Actor
    outside: bool
