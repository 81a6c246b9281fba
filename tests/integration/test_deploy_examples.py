"""The files of examples/deploy before those who read them; that they agree with the code and each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from atlas_etl.config.fields import parse_duration
from atlas_etl.config.project import load_project
from atlas_etl.scheduler.export import kubernetes

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
UNIT = (DEPLOY / "atlas.service").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
IMAGE = f"atlas-etl:{version('atlas-etl')}"
SHUTDOWN_GRACE = timedelta(seconds=30)

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt-get install systemd"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The service with a program that is there."""
    program = shutil.which("true")
    assert program is not None
    file = tmp_path / "atlas.service"
    file.write_text(UNIT.replace("/opt/atlas/bin/atlas", program))
    return file


@needs_systemd
def test_systemd_verifies_the_service(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_the_service_well_protected(unit: Path) -> None:
    """Its own measure, 0 to 100, less is better; the threshold is what it calls OK."""
    measure = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", unit]
    done = subprocess.run(measure, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd is too old to measure a file")
    assert done.returncode == 0, done.stdout


def test_a_stop_leaves_runs_their_grace() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)s$", UNIT, re.MULTILINE)
    assert timedelta(seconds=int(stop)) > SHUTDOWN_GRACE
    assert parse_duration(COMPOSE["services"]["scheduler"]["stop_grace_period"]) > SHUTDOWN_GRACE


def test_the_published_schema_takes_the_compose_file() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "-q", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*checker, DEPLOY / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_docker_compose_takes_the_compose_file() -> None:
    compose = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--format", "json"]
    asked = [*compose[:2], "version"]
    if shutil.which("docker") is None or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no docker compose: apt-get install docker-compose-v2")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "STATE_PASSWORD": "word"}
    done = subprocess.run(compose, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == {"scheduler", "state"}


def test_two_schedulers_share_a_state_store_of_postgres(tmp_path: Path) -> None:
    scheduler, state = COMPOSE["services"]["scheduler"], COMPOSE["services"]["state"]
    assert scheduler["deploy"] == {"replicas": 2}
    environment = {
        name: re.sub(r"\$\{STATE_PASSWORD:[^}]*\}", "word", text)
        for name, text in scheduler["environment"].items()
    }
    told = load_project(tmp_path, environment).state()
    assert told.protocol == state["image"].partition(":")[0].replace("postgres", "postgresql")
    assert told.connection.values == {
        "host": "state",
        "username": state["environment"]["POSTGRES_USER"],
        "database": state["environment"]["POSTGRES_DB"],
        "password": "word",
    }


def test_the_image_is_the_one_that_others_name() -> None:
    assert COMPOSE["services"]["scheduler"]["image"] == IMAGE
    assert f"-t {IMAGE} " in DOCKERFILE
    assert f'ENTRYPOINT ["{kubernetes.COMMAND}"]' in DOCKERFILE


def test_what_the_image_is_made_of_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert copied
    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
