"""How scheduled runs are run: the project's settings, and what a definition may set for itself."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel, Field

from atlas_etl.config.fields import MODEL_CONFIG, Duration, TestSchedule
from atlas_etl.config.schedule import CatchUp


class ExecutorName(StrEnum):
    """Where the scheduler's runs are executed."""

    PROCESS = "process"
    CELERY = "celery"


class BreakerSettings(BaseModel):
    """When a connector that fails again and again is left alone."""

    model_config = MODEL_CONFIG

    failures: int = Field(default=5, ge=1, description="failed runs in a row that open it")
    cooldown: Duration = Field(
        default=timedelta(minutes=15), description="how long it stays open before one run may try"
    )


_LONGEST_TEST = timedelta(hours=1)


class ScheduleSettings(BaseModel):
    """The scheduler's settings in atlas.yaml."""

    model_config = MODEL_CONFIG

    jobs: int = Field(default=4, ge=1, le=1000, description="how many runs go at once on this machine")
    executor: ExecutorName = Field(
        default=ExecutorName.PROCESS, description="runs are processes here, or tasks of Celery's workers"
    )
    catch_up: CatchUp = Field(
        default=CatchUp.ONCE, description="slots missed while no scheduler was there: one run, none, or each"
    )
    catch_up_window: Duration = Field(
        default=timedelta(days=1), description="how far back a slot may lie to be caught up"
    )
    jitter: Duration = Field(
        default=timedelta(), description="runs start up to so much later, each connector always by as much"
    )
    timeout: Duration | None = Field(
        default=timedelta(days=1), description="a run is ended after so long; null: never"
    )
    retries: int = Field(
        default=3, ge=0, le=100, description="how often a run that failed, and may pass, is run again"
    )
    retry_wait: Duration = Field(
        default=timedelta(minutes=1), description="before the first retry; it doubles every time"
    )
    longest_retry_wait: Duration = Field(default=timedelta(hours=1), description="it grows no further")
    breaker: BreakerSettings = Field(default=BreakerSettings(), description="one for each connector")
    test: TestSchedule = Field(
        default="every 15m", description="when each connector's connection is tested; never: not at all"
    )
    test_timeout: Duration = Field(
        default=timedelta(minutes=1),
        gt=timedelta(),
        le=_LONGEST_TEST,
        description="a test that takes longer has failed",
    )
    test_jobs: int = Field(default=2, ge=1, le=1000, description="how many tests go at once, beside the runs")
    late_after: Duration = Field(
        default=timedelta(minutes=10), description="a run that begins so long after its slot is told as late"
    )
    shutdown_grace: Duration = Field(
        default=timedelta(seconds=30), description="how long running runs may go on when the scheduler stops"
    )


class ConnectorScheduling(BaseModel):
    """What one definition sets; the rest is the project's."""

    model_config = MODEL_CONFIG

    catch_up: CatchUp | None = Field(default=None, description="missed slots: one run, none, or each")
    catch_up_window: Duration | None = Field(
        default=None, description="how far back a slot may lie to be caught up"
    )
    jitter: Duration | None = Field(default=None, description="how much later its runs start at most")
    timeout: Duration | None = Field(default=None, description="a run is ended after so long")
    retries: int | None = Field(default=None, ge=0, le=100, description="how often a run is run again")
    test: TestSchedule | None = Field(default=None, description="when its connection is tested, or never")
    test_timeout: Duration | None = Field(
        default=None, gt=timedelta(), le=_LONGEST_TEST, description="a test that takes longer has failed"
    )

    def over(self, project: ScheduleSettings) -> ScheduleSettings:
        """The project's settings with what is set here."""
        return project.model_copy(update=self.model_dump(exclude_none=True))
