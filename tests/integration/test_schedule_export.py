"""Exported schedules before the judges: cron's and systemd's own programs, published schemas, PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import kubernetes_validate
import pytest
import yaml
from croniter import croniter
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import postgres as postgres_recipe
from tests.servers.process import own, private_folder

from atlas_etl.cli.app import run
from atlas_etl.config.schedule import parse_schedule
from atlas_etl.scheduler.due import slots_between, upcoming_slots
from atlas_etl.scheduler.export.calendars import calendars
from atlas_etl.scheduler.export.entries import Entry, Export, Installation
from atlas_etl.scheduler.export.systemd import on_calendar
from atlas_etl.scheduler.export.targets import TARGETS

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SCHEDULES = {
    "daily": ("0 6 * * *", "Europe/Berlin"),
    "either": ("30 8-10 1,15 * mon-fri", "America/New_York"),
    "often": ("*/15 * * * *", "Asia/Kolkata"),
    "yearly": ("@yearly", "Australia/Lord_Howe"),
    "interval": ("every 45m", "UTC"),
}
ENTRIES = [Entry(name, schedule, zone) for name, (schedule, zone) in SCHEDULES.items()]

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt-get install systemd"
)
needs_gnu_date = pytest.mark.skipif(sys.platform != "linux", reason="date -d is GNU's")


def export(
    target: str,
    entries: Sequence[Entry],
    command: str = "/bin/true",
    zone: str = "UTC",
    folder: str = "/srv/a b",
) -> dict[str, str]:
    place = Installation((command,), Path(folder), "root", 0, 0, zone, "atlas-etl:1")
    return dict(TARGETS[target].export(Export(entries, (), place, NOW)))


def checked(*command: str | Path, given: str | None = None) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr or "successfully checked" in done.stderr


def is_debians_crontab() -> bool:
    program = shutil.which("crontab")
    if program is None:
        return False
    told = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)
    return "dry run" in told.stdout + told.stderr


# crontab


@pytest.mark.skipif(not is_debians_crontab(), reason="no crontab that checks (-n): apt-get install cron")
def test_cron_takes_the_table() -> None:
    (table,) = export("crontab", ENTRIES, folder='/srv/100%\\% "o\'clock"').values()
    checked("crontab", "-n", "-", given=table)


@needs_gnu_date
@pytest.mark.parametrize("machine", ["UTC", "America/St_Johns", "Asia/Kolkata"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_line_runs_at_the_schedules_times_whatever_the_machines_zone(
    name: str, machine: str, tmp_path: Path
) -> None:
    schedule, zone = SCHEDULES[name]
    since = datetime(2026, 12, 30, 22, 17, tzinfo=UTC)
    until = since + timedelta(days=3)
    fired = simulated_cron([Entry(name, schedule, zone)], machine, since, until, tmp_path)
    assert fired == list(slots_between(parse_schedule(schedule), zone, since, until))


@needs_gnu_date
def test_a_line_of_another_zone_follows_its_summer_time(tmp_path: Path) -> None:
    since, until = datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)
    entry = Entry("daily", "0 6 * * *", "Europe/Berlin")
    fired = simulated_cron([entry], "UTC", since, until, tmp_path)
    assert [slot.hour for slot in fired] == [5, 4, 4]
    assert fired == list(slots_between(parse_schedule(entry.schedule), entry.timezone, since, until))


@needs_gnu_date
@pytest.mark.parametrize(("day", "times"), [(29, 0), (25, 2)], ids=["that is left out", "that is twice"])
def test_a_line_of_another_zone_in_the_hour_that_changes(tmp_path: Path, day: int, times: int) -> None:
    since = datetime(2026, 3 if day == 29 else 10, day, tzinfo=UTC)
    entry = Entry("daily", "30 2 * * *", "Europe/Berlin")
    assert len(simulated_cron([entry], "UTC", since, since + timedelta(hours=6), tmp_path)) == times


def simulated_cron(
    entries: Sequence[Entry], machine: str, since: datetime, until: datetime, folder: Path
) -> list[datetime]:
    """When cron would run the table's lines, which a real shell executes with a clock of ours."""
    clock = folder / "date"
    clock.write_text(f'#!/bin/sh\nexec {shutil.which("date")} -d "@$NOW" "$@"\n')
    command = folder / "fire"
    command.write_text('#!/bin/sh\necho "$NOW"\n')
    for program in (clock, command):
        program.chmod(0o755)
    (table,) = export("crontab", entries, str(command), machine).values()
    script = []
    before = since.astimezone(ZoneInfo(machine)) - timedelta(minutes=1)
    for line in table.splitlines():
        if not line or line.startswith("#"):
            continue
        *fields, shell = line.split(" ", 5)
        assert not re.search(r"(?<!\\)%", shell)
        for slot in croniter(" ".join(fields), before).all_next(datetime):
            if slot > until:
                break
            if slot >= since:
                script.append(f"export NOW={int(slot.timestamp())}; ({shell.replace(chr(92) + '%', '%')})")
    ran = subprocess.run(
        ["/bin/sh"],
        input="\n".join(script),
        env={"PATH": f"{folder}:/usr/bin:/bin", "TZ": machine},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    return sorted(datetime.fromtimestamp(int(line), UTC) for line in ran.stdout.split())


# systemd


@needs_systemd
def test_systemd_verifies_the_units(tmp_path: Path) -> None:
    folder = tmp_path / "it's 100% $HOME"
    folder.mkdir()
    entries = [*ENTRIES, Entry("odd", "every 7m", "UTC")]
    for name, text in export("systemd", entries, folder=str(folder)).items():
        (tmp_path / name).write_text(text)
    checked("systemd-analyze", "verify", *sorted(tmp_path.glob("atlas-*")))


@needs_systemd
@pytest.mark.parametrize(
    ("schedule", "zone"),
    [
        *SCHEDULES.values(),
        ("15 12 */2 * 1", "UTC"),  # both, and not either: systemd's own way
        ("5,35 */6 * feb,apr-jun *", "Europe/Berlin"),
        ("0 22 31 * *", "Asia/Tokyo"),
        ("59 23 28-31 * sun", "America/New_York"),
        ("every 90m", "UTC"),
    ],
)
def test_systemd_reads_the_same_slots(schedule: str, zone: str) -> None:
    since = datetime(2026, 3, 27, 12, 1, tzinfo=UTC)
    found = calendars(schedule, zone)
    assert isinstance(found, tuple)
    theirs = {
        slot for calendar in found for line in on_calendar(calendar) for slot in elapses(line, since, 12)
    }
    assert sorted(theirs)[:12] == list(upcoming_slots(parse_schedule(schedule), zone, since, 12))


def elapses(line: str, since: datetime, count: int) -> list[datetime]:
    """The next times at which systemd itself says that this OnCalendar= elapses."""
    said = subprocess.run(
        [
            "systemd-analyze", "calendar", f"--iterations={count}",
            f"--base-time={since:%Y-%m-%d %H:%M:%S} UTC", line,
        ],
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout  # fmt: skip
    times = re.findall(r"(?:Next elapse|Iter\. #\d+|Iteration #\d+): \w+ (\S+ \S+) UTC", said)
    assert len(times) == count, said
    return [datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times]


# Kubernetes and GitHub Actions


def test_kubernetes_schema_takes_the_cron_jobs() -> None:
    entries = [entry for entry in ENTRIES if entry.name != "interval"]
    (manifest,) = export("kubernetes", entries).values()
    jobs = list(yaml.safe_load_all(manifest))
    for job in jobs:
        kubernetes_validate.validate(job, "1.32", strict=True)
    told = {
        job["metadata"]["annotations"]["atlas-etl/connector"]: (
            job["spec"]["schedule"],
            job["spec"]["timeZone"],
        )
        for job in jobs
    }
    assert told == {
        "daily": ("0 6 * * *", "Europe/Berlin"),
        "either": ("30 8-10 1,15 * 1-5", "America/New_York"),
        "often": ("*/15 * * * *", "Asia/Kolkata"),
        "yearly": ("0 0 1 1 *", "Australia/Lord_Howe"),
    }


def test_githubs_schema_takes_the_workflows(tmp_path: Path) -> None:
    for name, text in export("github-actions", ENTRIES).items():
        (tmp_path / Path(name).name).write_text(text)
    assert len(list(tmp_path.iterdir())) == len(ENTRIES)
    checker = (sys.executable, "-m", "check_jsonschema", "-q", "--builtin-schema", "vendor.github-workflows")
    checked(*checker, *sorted(tmp_path.iterdir()))


# pg_cron


@pytest.fixture
def pg_cron(postgres: ServerAddress) -> ServerAddress:
    """A database with pg_cron's function, which only notes what it was asked for."""
    with postgres_recipe.connect(postgres) as connection:
        connection.execute("CREATE SCHEMA cron")
        connection.execute("CREATE TABLE cron.job (jobname text PRIMARY KEY, schedule text, command text)")
        connection.execute(
            "CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint"
            " LANGUAGE sql AS 'INSERT INTO cron.job VALUES ($1, $2, $3) RETURNING 1::bigint'"
        )
    return postgres


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder that the server's account may write into; its name has what SQL and shells quote."""
    with private_folder("atlas-it's-") as folder:
        yield folder


def test_postgres_takes_the_script_and_its_jobs_run_the_command(
    pg_cron: ServerAddress, server_folder: Path
) -> None:
    command, noted = server_folder / "atlas", server_folder / "arguments"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{noted}"\nexit 0\n')
    command.chmod(0o755)
    own(command)
    entries = [Entry("shop", "30 6 * * mon", "Asia/Kolkata"), Entry("interval", "every 45m", "UTC")]
    folder = "/srv/it's a $HOME \\ folder"
    (script,) = export("pg_cron", entries, str(command), folder=folder).values()
    with postgres_recipe.connect(pg_cron) as connection:
        connection.execute(script.encode())
        jobs = connection.execute("SELECT jobname, schedule FROM cron.job ORDER BY jobname").fetchall()
        assert dict(jobs)["atlas-shop"] == "0 1 * * 1"
        assert [name for name, _ in jobs if name.startswith("atlas-interval")] == [
            "atlas-interval", "atlas-interval-2", "atlas-interval-3",
        ]  # fmt: skip
        ((job,),) = connection.execute("SELECT command FROM cron.job WHERE jobname = 'atlas-shop'").fetchall()
        connection.execute(job)
    assert noted.read_text().splitlines() == [
        "-C", folder, "connector", "sync", "shop", "--triggered-by", "pg_cron", "-q",
    ]  # fmt: skip


# The command


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a scheduled connector, a disabled one and one without a schedule."""
    body = "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [{table: orders}]\n"
    project.write("connectors.d/shop.yaml", body + "schedule: 0 6 * * *\ntimezone: Europe/Berlin\n")
    project.write("connectors.d/off.yaml", body + "schedule: 0 6 * * *\nenabled: false\n")
    project.write("connectors.d/idle.yaml", body)
    monkeypatch.chdir(project.folder)
    monkeypatch.delenv("ATLAS_PROJECT", raising=False)
    return project


def test_the_command_prints_one_file_and_says_whom_it_leaves_out(
    shop: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schedule", "export", "--to", "kubernetes"]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["spec"]["timeZone"] == "Europe/Berlin"
    assert str(shop.folder) in out
    assert "off is left out: it is disabled" in err
    assert "idle is left out: it has no schedule" in err


def test_the_command_writes_several_files_into_a_folder(
    shop: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schedule", "export", "--to", "systemd"]) == 2
    assert "--output DIR" in capsys.readouterr().err
    assert run(["schedule", "export", "--to", "systemd", "--output", "units", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [file["name"] for file in document["files"]] == ["atlas-shop.service", "atlas-shop.timer"]
    for file in document["files"]:
        assert Path(file["path"]).read_text() == file["text"]
    assert {each["connector"] for each in document["left_out"]} == {"off", "idle"}


def test_what_a_target_cannot_keep_is_an_error_that_names_the_connector(
    shop: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schedule", "export", "--to", "pg_cron", "--output", "sql"]) == 2
    assert "error: shop: '0 6 * * *' in Europe/Berlin" in capsys.readouterr().err
    assert not (shop.folder / "sql").exists()
    assert run(["schedule", "export", "idle", "--to", "crontab"]) == 2
    assert "nothing to export" in capsys.readouterr().err


def test_an_exported_line_syncs(project: Project) -> None:
    """What crontab would give to its shell, executed as it stands, from a folder elsewhere."""
    project.write("data/orders.csv", "id,amount\n1,2.50\n")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: csv\nconnection: {path: data}\nstreams: [{name: orders, path: '*.csv'}]\n"
        "schedule: '* * * * *'\n",
    )
    table = project.atlas("schedule", "export", "--to", "crontab").stdout
    shell = table.splitlines()[-1].split(" ", 5)[5]
    ran = subprocess.run(
        ["/bin/sh", "-c", shell],
        cwd="/",
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    (last,) = project.atlas("connector", "history", "--json").json()["runs"]
    assert (last["status"], last["triggered_by"], last["rows_processed"]) == ("completed", "crontab", 1)
