"""Prints the names of the servers that tests would do without here: `python -m tests.servers`."""

from __future__ import annotations

import os

from tests.servers import Unavailable, mysql, postgres


def missing() -> list[str]:
    """The servers that are neither given by URL nor startable."""
    names = []
    for name, find_programs in {"postgres": postgres.find_programs, "mysql": mysql.find_programs}.items():
        if os.environ.get(f"ATLAS_TEST_{name.upper()}_URL"):
            continue
        try:
            find_programs()
        except Unavailable:
            names.append(name)
    return names


print(" ".join(missing()))
