"""What each target's files say, with the awkward characters of a path, and which schedules each refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from atlas_etl.errors import ConfigError
from atlas_etl.scheduler.export.entries import Entry, Export, Installation
from atlas_etl.scheduler.export.targets import TARGETS

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AWKWARD = Path('/srv/it\'s 100% $HOME "x" ${{ y }}')


def exported(
    target: str, *entries: Entry, folder: Path = AWKWARD, zone: str | None = "UTC"
) -> dict[str, str]:
    place = Installation(("/opt/atlas/bin/atlas",), folder, "etl", 10001, 10001, zone, "atlas-etl:1")
    return dict(TARGETS[target].export(Export(entries, (), place, NOW)))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_takes_a_daily_schedule_and_names_command_and_folder(target: str) -> None:
    files = exported(target, Entry("shop", "@daily", "UTC"), folder=Path("/srv/warehouse"))
    texts = "".join(files.values())
    assert "/opt/atlas/bin/atlas" in texts
    assert "/srv/warehouse" in texts


@pytest.mark.parametrize("target", ["crontab", "kubernetes", "pg_cron", "github-actions"])
def test_an_interval_across_days_is_refused_where_only_calendars_are_known(target: str) -> None:
    with pytest.raises(ConfigError, match="every 7m") as refused:
        exported(target, Entry("shop", "every 7m", "UTC"))
    assert refused.value.connector == "shop"


@pytest.mark.parametrize("target", ["kubernetes", "github-actions", "airflow"])
def test_a_date_by_day_and_weekday_together_is_refused_where_either_would_do(target: str) -> None:
    with pytest.raises(ConfigError, match="together"):
        exported(target, Entry("shop", "0 6 */2 * 1", "UTC"))


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "pg_cron"])
def test_summer_time_is_kept(target: str) -> None:
    assert exported(target, Entry("shop", "0 6 * * *", "Europe/Berlin"))


def test_pg_cron_refuses_a_zone_with_summer_time() -> None:
    with pytest.raises(ConfigError, match="'0 6 \\* \\* \\*' in Europe/Berlin would be at the wrong time"):
        exported("pg_cron", Entry("shop", "0 6 * * *", "Europe/Berlin"))


def test_github_actions_refuse_what_is_more_often_than_they_run() -> None:
    with pytest.raises(ConfigError, match="more often than every 5 minutes"):
        exported("github-actions", Entry("shop", "*/4 * * * *", "UTC"))
    with pytest.raises(ConfigError, match="more often than every 5 minutes"):
        exported("github-actions", Entry("shop", "0,58 * * * *", "UTC"))
    assert exported("github-actions", Entry("shop", "0,58 6 * * *", "UTC"))


def test_a_cron_job_has_one_expression() -> None:
    with pytest.raises(ConfigError, match="more than one cron expression"):
        exported("kubernetes", Entry("shop", "every 90m", "UTC"))


def test_two_connectors_that_kubernetes_cannot_tell_apart() -> None:
    with pytest.raises(ConfigError, match="atlas-shop-eu"):
        exported("kubernetes", Entry("shop-eu", "@daily", "UTC"), Entry("shop_eu", "@daily", "UTC"))


def test_systemd_takes_what_its_unit_files_would_expand_as_it_is() -> None:
    units = exported("systemd", Entry("shop", "@daily", "UTC"))
    service = units["atlas-shop.service"]
    assert "WorkingDirectory=/srv/it's 100%% $HOME" in service
    assert '"/srv/it\'s 100%% $$HOME \\"x\\" $${{ y }}"' in service


def test_kubernetes_and_github_keep_what_they_would_expand() -> None:
    (manifest,) = exported("kubernetes", Entry("shop", "@daily", "UTC")).values()
    pod = yaml.safe_load(manifest)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][1].replace("$$", "$") == str(AWKWARD)
    assert container["workingDir"] == pod["volumes"][0]["hostPath"]["path"] == str(AWKWARD)
    (workflow,) = exported("github-actions", Entry("shop", "@daily", "UTC")).values()
    (step,) = yaml.safe_load(workflow)["jobs"]["sync"]["steps"]
    assert "${{ '${{' }} y }}" in step["run"]


def test_a_path_with_a_line_break_is_refused_by_all() -> None:
    with pytest.raises(ConfigError, match="no schedule's file can hold"):
        exported("crontab", Entry("shop", "@daily", "UTC"), folder=Path("/srv/a\nb"))


def test_a_command_that_cron_would_cut_is_refused() -> None:
    with pytest.raises(ConfigError, match="cron takes 998"):
        exported("crontab", Entry("shop", "@daily", "UTC"), folder=Path("/" + "x" * 1000))
