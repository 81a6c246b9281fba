"""The machine and the versions that numbers were measured with; without them a number means nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("atlas-etl", "duckdb", "pyarrow", "psycopg", "pymysql", "adbc-driver-sqlite", "numpy")
_PROGRAMS = ("psql", "mariadb", "sqlite3")


def facts() -> dict[str, object]:
    """Date, processor, cores, memory, load and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "commit": _said(["git", "describe", "--always", "--dirty"]),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "programs": {name: _said([name, "--version"]) for name in _PROGRAMS if shutil.which(name)},
    }


def in_words(found: Mapping[str, object]) -> str:
    """The facts as a few lines of text."""
    lines = []
    for name, value in found.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        lines.append(f"{name.replace('_', ' ')}: {shown}")
    return "\n".join(lines)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _said(command: list[str]) -> str:
    """The first line that a program prints; empty where it is not here or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()[:60]
