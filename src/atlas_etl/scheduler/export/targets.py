"""The schedulers that `schedule export` writes for: a row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from atlas_etl.scheduler.export import (
    airflow,
    celery,
    crontab,
    github_actions,
    kubernetes,
    pg_cron,
    systemd,
)
from atlas_etl.scheduler.export.entries import Export


class Target(Struct, frozen=True):
    """A scheduler. `export` makes files by name; ConfigError for a schedule that it cannot keep."""

    export: Callable[[Export], Mapping[str, str]]
    is_one_file: bool


TARGETS: Mapping[str, Target] = {
    "crontab": Target(crontab.export, is_one_file=True),
    "systemd": Target(systemd.export, is_one_file=False),
    "kubernetes": Target(kubernetes.export, is_one_file=True),
    "pg_cron": Target(pg_cron.export, is_one_file=True),
    "github-actions": Target(github_actions.export, is_one_file=False),
    "airflow": Target(airflow.export, is_one_file=True),
    "celery": Target(celery.export, is_one_file=True),
}
