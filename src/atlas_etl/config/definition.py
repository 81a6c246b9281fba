"""A connector's definition: one connection, its streams, where they go and when."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel, Field, JsonValue, field_validator, model_validator

from atlas_etl.config.fields import (
    MODEL_CONFIG,
    MOST_QUARANTINED,
    Duration,
    Hazards,
    Line,
    Name,
    Schedule,
    Size,
    Zone,
)
from atlas_etl.config.scheduling import ConnectorScheduling, ScheduleSettings
from atlas_etl.config.stream import StreamDefinition
from atlas_etl.model import BatchLimits, RetryPolicy, Stream, Window


class RetryDefinition(BaseModel):
    """What a transient failure costs before the stream is given up."""

    model_config = MODEL_CONFIG

    attempts: int = Field(default=3, ge=1, le=100, description="how often a stream is tried; 1: no retry")
    first_wait: Duration = Field(default=RetryPolicy().first_wait, description="it doubles every time")
    longest_wait: Duration = Field(default=RetryPolicy().longest_wait, description="it grows no further")


class WindowDefinition(BaseModel):
    """How much of a long load is committed at once; a load that is killed goes on from its last window."""

    model_config = MODEL_CONFIG

    rows: int = Field(default=Window().rows, ge=1, description="at most so many, rounded up to a batch")
    bytes: Size = Field(default=Window().bytes, ge=64 * 1024, description="at most so much in memory's form")


class ConnectorDefinition(BaseModel):
    """One file of connectors.d/, as it is written there: the connection is not looked into.

    The connection's own keys depend on the protocol and on layers outside this file: see `connection`.
    """

    model_config = MODEL_CONFIG

    name: Name = Field(description="the file's name; need not be written")
    protocol: Line = Field(description="`atlas connector types` lists them")
    description: str = Field(default="", description="what this is, for people")
    connection: dict[str, JsonValue] = Field(
        default_factory=dict, repr=False, description="where and how to get in"
    )
    streams: tuple[StreamDefinition, ...] = Field(default=(), description="what is read")
    destination: Name | None = Field(default=None, description="named in atlas.yaml; default: its default")
    schedule: Schedule | None = Field(
        default=None, description="five cron fields, @hourly, @daily, ..., or `every 15m`"
    )
    timezone: Zone | None = Field(default=None, description="the schedule's zone; default: the project's")
    scheduling: ConnectorScheduling | None = Field(
        default=None, description="how the schedule runs it; default: as atlas.yaml says"
    )
    enabled: bool = Field(default=True, description="whether `sync --all` and the schedule run it")
    env_prefix: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variables that override the connection: `<PREFIX>_HOST`",
    )
    hazards: Hazards = Field(default_factory=dict, description="every stream's default")
    quarantine_limit: int = Field(
        default=0,
        ge=0,
        le=MOST_QUARANTINED,
        description="every stream's default: refused rows that may be kept aside; 0: one fails the load",
    )
    metadata_columns: bool = Field(default=False, description="every stream's default")
    batch_bytes: Size = Field(
        default=BatchLimits().bytes, ge=64 * 1024, le=1024**3, description="how large a batch in memory grows"
    )
    window: WindowDefinition = Field(
        default=WindowDefinition(), description="how much of a long load is committed at once"
    )
    retry: RetryDefinition = Field(
        default=RetryDefinition(), description="of connections lost and servers that were not there"
    )

    @field_validator("streams")
    @classmethod
    def _distinct_names(cls, streams: tuple[StreamDefinition, ...]) -> tuple[StreamDefinition, ...]:
        counts = Counter(stream.name for stream in streams)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"two streams are called {twice[0]!r}; give one of them another `name`")
        return streams

    @model_validator(mode="after")
    def _distinct_targets(self) -> ConnectorDefinition:
        seen: dict[tuple[str, str], str] = {}
        for stream in self.streams:
            schema, table = self.name, stream.name
            if stream.into is not None:
                schema, table = stream.into.schema_ or schema, stream.into.table
            other = seen.setdefault((schema, table), stream.name)
            if other != stream.name:
                raise ValueError(f"streams {other!r} and {stream.name!r} land in the same table {table!r}")
        return self

    @property
    def batch_limits(self) -> BatchLimits:
        return BatchLimits(bytes=self.batch_bytes)

    @property
    def load_window(self) -> Window:
        return Window(self.window.rows, self.window.bytes)

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.retry.attempts, self.retry.first_wait, self.retry.longest_wait)

    def scheduling_over(self, project: ScheduleSettings) -> ScheduleSettings:
        """The project's settings with what this connector sets itself."""
        return (self.scheduling or ConnectorScheduling()).over(project)

    def to_streams(self) -> tuple[Stream, ...]:
        """The streams as the pipeline knows them, on this connector's defaults."""
        return tuple(
            stream.to_stream(self.hazards, self.metadata_columns, self.quarantine_limit)
            for stream in self.streams
        )
