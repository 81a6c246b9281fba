"""Prints the names of the servers that tests would do without here: `python -m tests.servers`."""

from __future__ import annotations

import os

from tests.servers import Unavailable, mysql, postgres, redis, ssh


def missing() -> list[str]:
    """The servers that are neither given by URL nor startable."""
    names = []
    recipes = {"postgres": postgres, "mysql": mysql, "redis": redis, "ssh": ssh}
    for name, recipe in recipes.items():
        if os.environ.get(f"ATLAS_TEST_{name.upper()}_URL"):
            continue
        try:
            recipe.find_programs()
        except Unavailable:
            names.append(name)
    return names


print(" ".join(missing()))
