"""One stream of a definition: what is read, how far it reaches, and where it lands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, JsonValue, WithJsonSchema, model_validator

from atlas_etl.config.fields import (
    MODEL_CONFIG,
    MOST_QUARANTINED,
    Columns,
    Duration,
    Hazards,
    Line,
    Zone,
    without_nulls,
)
from atlas_etl.config.protection import Protect, rules_of
from atlas_etl.config.stream_names import derived_name
from atlas_etl.model import (
    Deletes,
    Deletion,
    Disposition,
    Hazard,
    HazardPolicy,
    NullCursor,
    Stream,
    TableName,
)

_RESERVED = "_atlas_"
_READ = ("table", "query", "path")
_MOST_PARTITIONS = 64  # each is a session of the source
_TARGET_SCHEMA: dict[str, JsonValue] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"schema": {"type": "string"}, "table": {"type": "string"}},
            "required": ["table"],
            "additionalProperties": False,
        },
    ]
}


class Target(BaseModel):
    """The table that a stream lands in."""

    model_config = MODEL_CONFIG

    table: Line
    schema_: Line | None = Field(default=None, alias="schema")


def _target(value: object) -> object:
    """`orders` and `shop.orders`; a name that holds a dot needs the mapping."""
    if not isinstance(value, str):
        return value
    schema, _, table = value.rpartition(".")
    if "." in schema:
        raise ValueError("holds more than one dot; write {schema: ..., table: ...}")
    return {"table": table, "schema": schema} if schema else {"table": table}


class DeletesDefinition(BaseModel):
    """What becomes of rows that the source deleted; in short `deletes: reconcile`."""

    model_config = MODEL_CONFIG

    mode: Literal["reconcile"] = Field(
        default="reconcile", description="compare the destination's keys with the source's after a load"
    )
    how: Deletion = Field(
        default=Deletion.HARD, description="hard: delete the rows; soft: set their _atlas_deleted_at"
    )
    every: Duration | None = Field(
        default=None, description="at most once in this time; default: at each sync"
    )
    max_share: float = Field(
        default=Deletes().max_share,
        ge=0,
        le=1,
        strict=True,  # `true` is no share
        description="refuse to delete more than this share of the destination's rows at once",
    )

    def to_deletes(self) -> Deletes:
        return Deletes(self.how, self.every, self.max_share)


def _deletes(value: object) -> object:
    return {"mode": value} if isinstance(value, str) else value


class StreamDefinition(BaseModel):
    """One thing read: exactly one of `table`, `query` and `path`."""

    model_config = MODEL_CONFIG

    name: Line = Field(max_length=255, description="default: the table's last part or the file's stem")
    table: Line | None = Field(default=None, description="a table or view, with its schema where it has one")
    query: str | None = Field(default=None, min_length=1, description="a query in the source's own language")
    path: Line | None = Field(default=None, description="a file or a glob")
    cursor: Line | None = Field(default=None, description="the column that grows: a timestamp or an id")
    primary_key: Columns = Field(default=(), description="default: the catalog's")
    disposition: Disposition | None = Field(default=None, description="how rows meet what is there")
    null_cursor: NullCursor = Field(default=NullCursor.ERROR, description="rows whose cursor is NULL")
    lag: Duration | None = Field(
        default=None, description="how late rows may be committed, where the source cannot say"
    )
    columns: Columns = Field(default=(), description="only these columns")
    exclude: Columns = Field(default=(), description="all columns but these")
    hazards: Hazards = Field(
        default_factory=dict, description="what to do about values without an exact form"
    )
    quarantine_limit: int | None = Field(
        default=None,
        ge=0,
        le=MOST_QUARANTINED,
        description="refused rows that may be kept aside; default: the connector's",
    )
    partitions: int | None = Field(
        default=Stream("").partitions,
        ge=1,
        le=_MOST_PARTITIONS,
        strict=True,
        description="connections that read a whole table of PostgreSQL, MySQL or SQLite; default: 1, for a "
        "large one of SQLite 2",
    )
    protect: Protect = Field(
        default_factory=dict,
        description="by column, what its values become before they are written: hash, mask, drop, tokenize",
    )
    timezone: Zone | None = Field(default=None, description="the zone of timestamps that have none")
    into: Annotated[Target, BeforeValidator(_target), WithJsonSchema(_TARGET_SCHEMA)] | None = Field(
        default=None, description="another table than `<connector>.<stream>`"
    )
    metadata_columns: bool | None = Field(default=None, description="default: the connector's")
    deletes: (
        Annotated[
            DeletesDefinition,
            BeforeValidator(_deletes, json_schema_input_type=DeletesDefinition | Literal["reconcile"]),
        ]
        | None
    ) = Field(default=None, description="rows that the source deleted; default: they stay")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"table": value}
        if isinstance(value, Mapping):
            value = without_nulls(value, cls)
            if "name" not in value:
                # A stream that reads nothing is refused below, with a better reason than its missing name.
                name = derived_name(value) if any(value.get(key) for key in _READ) else "unnamed"
                value |= {"name": name} if name else {}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> StreamDefinition:
        given = [key for key in _READ if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"needs exactly one of table, query and path, and has {found}")
        if (self.partitions or 1) > 1 and self.table is None:
            raise ValueError(f"has partitions, but only a table is read in several, and this is a {given[0]}")
        if self.columns and self.exclude:
            raise ValueError("has both columns and exclude; one of them says it all")
        for what, needed in (("cursor", (self.cursor,) if self.cursor else ()), ("key", self.primary_key)):
            left_out = [column for column in needed if self._leaves_out(column)]
            if left_out:
                raise ValueError(f"leaves out the {what} column {left_out[0]!r}, which every load needs")
        self._refuse_rules()
        if self.deletes is not None and self._replaces():
            raise ValueError(
                "has deletes, and the disposition replace, which leaves no deleted rows: remove deletes, "
                "or set a cursor or the disposition merge"
            )
        for table in (self.name, self.into.table if self.into else ""):
            if table.casefold().startswith(_RESERVED):
                raise ValueError(f"names that begin with {_RESERVED} are Atlas's own")
        return self

    def _refuse_rules(self) -> None:
        left_out = [column for column in self.protect if self._leaves_out(column)]
        if left_out:
            raise ValueError(f"has a rule in protect for the column {left_out[0]!r}, which is not read")
        if self.cursor in self.protect:
            raise ValueError(
                f"protects the cursor {self.cursor!r}, which tells what is new and stays in the checkpoint; "
                "choose another cursor"
            )
        for column, rule in rules_of(self.protect).items():
            if column in self.primary_key and not rule.tells_apart:
                raise ValueError(
                    f"has the rule {rule.how} for the key column {column!r}: rows could not be told apart; "
                    "hash and tokenize leave them distinct"
                )

    def _replaces(self) -> bool:
        return self.disposition is Disposition.REPLACE or (self.disposition is None and self.cursor is None)

    def _leaves_out(self, column: str) -> bool:
        # Many systems ignore case in names, so only what is missing in any case is missing.
        name = column.casefold()
        excluded = {item.casefold() for item in self.exclude}
        included = {item.casefold() for item in self.columns}
        return name in excluded or (bool(included) and name not in included)

    def to_stream(
        self, hazards: Mapping[Hazard, HazardPolicy], metadata_columns: bool, quarantine_limit: int
    ) -> Stream:
        """The stream as the pipeline knows it, on the connector's defaults."""
        return Stream(
            name=self.name,
            table=self.table,
            query=self.query,
            path=self.path,
            cursor=self.cursor,
            primary_key=self.primary_key,
            disposition=self.disposition,
            null_cursor=self.null_cursor,
            lag=self.lag,
            columns=self.columns,
            exclude=self.exclude,
            hazards={**hazards, **self.hazards},
            protect=rules_of(self.protect),
            timezone=self.timezone,
            into=TableName(self.into.table, self.into.schema_) if self.into else None,
            metadata_columns=metadata_columns if self.metadata_columns is None else self.metadata_columns,
            deletes=self.deletes.to_deletes() if self.deletes else None,
            quarantine_limit=quarantine_limit if self.quarantine_limit is None else self.quarantine_limit,
            partitions=self.partitions,
        )
