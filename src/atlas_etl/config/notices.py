"""Who is told what the scheduler sees: webhooks of a project, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator

from atlas_etl.config.connection import validate_connection
from atlas_etl.config.fields import MODEL_CONFIG, Name
from atlas_etl.config.project import Project
from atlas_etl.config.project_folder import PROJECT_FILE

PLACEHOLDERS = frozenset({"connector", "event", "scheduled_at", "reason", "hint", "run_id", "project"})
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


class NoticeKind(StrEnum):
    """What a notice may be about."""

    FAILURE = "failure"
    RECOVERY = "recovery"
    BREAKER = "breaker"
    LATE = "late"
    UNHEALTHY = "unhealthy"
    HEALTHY = "healthy"


class NoticeTarget(BaseModel):
    """One webhook."""

    model_config = MODEL_CONFIG

    url: SecretStr = Field(description="where notices are posted; whoever has it may post there, too")
    format: Literal["json", "slack"] = Field(
        default="json", description="json: an object with each detail; slack: one with the text"
    )
    on: tuple[NoticeKind, ...] = Field(
        default=tuple(NoticeKind), min_length=1, description="what is told; default: all of it"
    )
    connectors: tuple[Name, ...] = Field(default=(), description="of which connectors; default: all of them")
    template: str | None = Field(
        default=None, min_length=1, description="the text, e.g. {connector}: {event}, {reason}"
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: SecretStr) -> SecretStr:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("should begin with https:// or http://")
        return url

    @field_validator("template")
    @classmethod
    def _knows_its_names(cls, template: str | None) -> str | None:
        unknown = sorted(set(_PLACEHOLDER.findall(template or "")) - PLACEHOLDERS)
        if unknown:
            raise ValueError(f"there is no {{{unknown[0]}}}; there are {', '.join(sorted(PLACEHOLDERS))}")
        return template


def notice_targets(project: Project) -> Mapping[str, NoticeTarget]:
    """A project's webhooks, their references resolved. Raises ConfigError."""
    return {
        name: validate_connection(
            NoticeTarget,
            project.layered.under("notices", name),
            project.context,
            file=PROJECT_FILE,
            below=("notices", name),
        )
        for name in project.settings.notices
    }


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its names replaced: plain substitution, and nothing is evaluated."""
    return _PLACEHOLDER.sub(lambda name: values[name[1]], template)
