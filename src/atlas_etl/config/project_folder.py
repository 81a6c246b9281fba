"""Where the project is: `-C`, `ATLAS_PROJECT`, the nearest folder upwards that looks like one, or here.

Shell completion runs this: standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from atlas_etl.errors import ConfigError

PROJECT_FILE = "atlas.yaml"
DEFINITIONS = "connectors.d"
DEFAULT_DESTINATION = "warehouse"
PROJECT_VARIABLE = "ATLAS_PROJECT"


def find_project_folder(explicit: Path | None, environ: Mapping[str, str], start: Path) -> Path:
    """The project's folder, absolute.

    Raises ConfigError where a folder was named that is not there, or its name is not UTF-8, as DuckDB's and
    SQLite's paths are.
    """
    folder = _find(explicit, environ, start)
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"the name of the project's folder {folder} is not UTF-8",
            hint="rename it, or the folder above it that is called so",
            code="project_folder",
        ) from None
    return folder


def _find(explicit: Path | None, environ: Mapping[str, str], start: Path) -> Path:
    named = explicit or (Path(environ[PROJECT_VARIABLE]) if environ.get(PROJECT_VARIABLE) else None)
    if named is not None:
        folder = Path(os.path.abspath(start / named.expanduser()))
        if not folder.is_dir():
            source = "" if explicit else f" (from {PROJECT_VARIABLE})"
            raise ConfigError(
                f"there is no folder {folder}{source}",
                hint="`atlas init DIR` makes a project",
                code="project_not_found",
            )
        return folder
    here = Path(os.path.abspath(start))
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file() or (folder / DEFINITIONS).is_dir():
            return folder
    return here


def shown(path: Path, folder: Path) -> str:
    """How messages call a file: relative to the project where it lies inside."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
