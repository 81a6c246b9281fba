"""What comes before a resource's records: names that its request needs, and the job that finds them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, JsonValue, model_validator

from atlas_etl.config.fields import Duration
from atlas_etl.connectors.declared import known_types
from atlas_etl.connectors.http._settings.auth import MODEL, RecordsPath

JOB_ID = "job_id"
ANY_KIND = "*"


class Given(BaseModel):
    """Another answer's list, whose members replace `{name}` joined by commas: the columns to select, say."""

    model_config = MODEL

    path: str = Field(min_length=1, description="what describes the records, below base_url or a whole URL")
    records: RecordsPath = Field(description="where its answer has the list, e.g. fields")
    field: RecordsPath = Field(description="the member of each that is taken, e.g. name")
    kind: RecordsPath | None = Field(
        default=None, description="the member that says of what kind each is, e.g. type"
    )
    without: tuple[str, ...] = Field(default=(), description="kinds that are left out")
    types: Annotated[dict[str, str], AfterValidator(known_types)] = Field(
        default_factory=dict,
        description="for each kind the type of the column of that name: {int: bigint}; `*` is any other",
    )

    @model_validator(mode="after")
    def _knows_kinds(self) -> Given:
        if (self.without or self.types) and self.kind is None:
            raise ValueError("without and types need `kind`, the member that says of what kind each is")
        return self


class Abort(BaseModel):
    """What stops a job that is not done."""

    model_config = MODEL

    path: str = Field(min_length=1, description="below base_url or a whole URL, with {job_id}")
    method: Literal["DELETE", "PATCH", "POST", "PUT"] = "POST"
    body: JsonValue = Field(default=None, description="what is sent, as JSON")


class Job(BaseModel):
    """A job that the resource's own request begins, and whose results are its records."""

    model_config = MODEL

    id: RecordsPath = Field(default="id", description="where the answer to that request has the job's id")
    status_path: str = Field(min_length=1, description="what tells how it stands, with {job_id}")
    status: RecordsPath = Field(default="status", description="where that answer, in JSON, has its state")
    done: tuple[str, ...] = Field(min_length=1, description="states in which there are results")
    failed: tuple[str, ...] = Field(default=(), description="states in which there never will be")
    message: RecordsPath | None = Field(default=None, description="where it says why, then")
    results_path: str = Field(
        min_length=1, description="what has the results, with {job_id}; pagination and format are theirs"
    )
    delete_path: str | None = Field(
        default=None, min_length=1, description="what is deleted once all was read, with {job_id}"
    )
    abort: Abort | None = Field(
        default=None, description="what stops it where the read ends, or is given up, before it is done"
    )
    limit: str | None = Field(
        default=None,
        description="what `{limit}` in the resource's request becomes for a preview of `{count}` records, "
        "e.g. ' LIMIT {count}'; in other requests it is left out",
    )
    interval: Duration = Field(
        default=timedelta(seconds=1),
        gt=timedelta(),
        description="before the first look; each time half as long again",
    )
    longest_interval: Duration = Field(default=timedelta(seconds=30), description="between two looks")
    deadline: Duration = Field(default=timedelta(hours=4), description="after which it is given up")

    @model_validator(mode="after")
    def _names_the_job(self) -> Job:
        abort_path = self.abort.path if self.abort is not None else None
        for path in (self.status_path, self.results_path, self.delete_path, abort_path):
            if path is not None and f"{{{JOB_ID}}}" not in path:
                raise ValueError(f"{path!r} does not say where the job's id goes: write {{{JOB_ID}}} there")
        if both := set(self.done) & set(self.failed):
            raise ValueError(f"{min(both)!r} is in both `done` and `failed`")
        return self
