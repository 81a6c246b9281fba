"""Airflow for the tests: an environment of its own beside ours, for it pins a hundred packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.address import Unavailable, required

VERSION = "3.3.2"
ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-airflow"
MENDING = "ATLAS_TEST_REQUIRE=airflow scripts/test tests/integration/test_airflow.py makes it, with uv"


def python() -> Path:
    """The Python of an environment with Airflow and what Atlas needs; made where it is required.

    That takes a minute, or seconds where uv has the packages. It stays, in a folder that git ignores.
    """
    ready = ENVIRONMENT / f".ready-{VERSION}"
    found = ENVIRONMENT / "bin" / "python"
    if not ready.exists():
        if "airflow" not in required():
            raise Unavailable(f"no Airflow {VERSION} in {ENVIRONMENT.name}: {MENDING}")
        _make(found)
        ready.touch()
    return found


def database() -> Path:
    """A fresh metadata database to copy; it takes longer to make than all that is done with it."""
    template = ENVIRONMENT / "template"
    if not (template / "airflow.db").exists():
        migrate = [ENVIRONMENT / "bin" / "airflow", "db", "migrate"]
        subprocess.run(migrate, env={**os.environ, **settings(template)}, check=True, capture_output=True)
    return template / "airflow.db"


def settings(home: Path) -> Mapping[str, str]:
    """The variables of an Airflow that lives in this folder."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }


def _make(python: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise Unavailable("an environment with Airflow is made with uv, which is not here")
    needed = [uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes"]
    ours = subprocess.run(needed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    subprocess.run([uv, "venv", "--quiet", "--clear", ENVIRONMENT], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, f"apache-airflow=={VERSION}", "-r", "-"], check=True, input=ours, text=True)
