"""atlas.yaml: what the connectors of a project share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, JsonValue

from atlas_etl.config.fields import MODEL_CONFIG, HistoryRetention, Name, Zone
from atlas_etl.config.scheduling import ScheduleSettings


def _check_target(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("protocol"), str):
        raise ValueError("should be a URI, or a mapping with `protocol` and the connection's keys beside it")
    if isinstance(value.get("connection"), dict):
        raise ValueError("the connection's keys stand beside `protocol` here, not under `connection`")
    return value


_TARGET_SCHEMA: Mapping[str, JsonValue] = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"protocol": {"type": "string"}}, "required": ["protocol"]},
    ]
}
Target = Annotated[JsonValue, AfterValidator(_check_target), Field(json_schema_extra=dict(_TARGET_SCHEMA))]


class ProjectSettings(BaseModel):
    """atlas.yaml, as it is written: connections are not looked into.

    Without `destination`, the default is the only one declared, or the one called `warehouse`; where
    none is declared there is `warehouse`, a DuckDB file. See `project.BUILT_IN`.
    """

    model_config = MODEL_CONFIG

    destination: Name | None = Field(default=None, description="the name of the default destination")
    destinations: dict[Name, Target] = Field(
        default_factory=dict,
        repr=False,
        description="by name: a URI, or `protocol` and the connection's keys",
    )
    state: Target | None = Field(
        default=None, repr=False, description="a URI or a connection; default: .atlas/state.db"
    )
    defaults: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, repr=False, description="by protocol: keys of every connection of that protocol"
    )
    key_store: Literal["file", "keyring"] = Field(
        default="file",
        description="where the key to the secrets is, unless ATLAS_SECRET_KEY holds it: .atlas/secret.key, "
        "or the operating system's keyring",
    )
    protect_key: str | None = Field(
        default=None,
        repr=False,
        description="a reference to the key of `protect`; default: the stored secret atlas.protect/key, "
        "which is made when it is first needed",
    )
    timezone: Zone = Field(default="UTC", description="the zone of schedules that name none")
    notices: dict[Name, dict[str, JsonValue]] = Field(
        default_factory=dict,
        repr=False,
        description="by name: webhooks that are told what `atlas schedule` sees",
    )
    schedule: ScheduleSettings = Field(
        default=ScheduleSettings(), description="how `atlas schedule` runs connectors"
    )
    history_retention: HistoryRetention = Field(
        default="90d",
        validate_default=True,
        description="how long runs are kept (90d), or how many for each connector (500); null: for ever",
    )
