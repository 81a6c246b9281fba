"""connectors.d/: which definitions there are, and in which files.

Shell completion runs this: standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

from atlas_etl.config.project_folder import DEFINITIONS, shown
from atlas_etl.errors import ConfigError, nearest

SUFFIXES = (".yaml", ".yml", ".json")


def definition_names(project: Path) -> list[str]:
    """The names of all definitions, sorted; none where there is no folder. Raises ConfigError."""
    return sorted({stem for stem, _ in _files(project)})


def definition_path(project: Path, name: str) -> Path:
    """The one file that defines `name`.

    Raises ConfigError: `unknown_connector` with the nearest names, `ambiguous_definition` where two
    files define it. Case tells no two apart: environment variables and most warehouses have none.
    """
    files = _files(project)
    folded = name.casefold()
    found = sorted(file for stem, file in files if stem == name)
    alike = sorted(file for stem, file in files if stem.casefold() == folded)
    if found and len(alike) > 1:
        names = " and ".join(shown(project / DEFINITIONS / file, project) for file in alike)
        same = len(alike) == len(found)
        raise ConfigError(
            f"{names} both define connector {name!r}",
            hint="remove one of them" if same else "rename or remove one: case does not tell two names apart",
            code="ambiguous_definition",
            connector=name,
        )
    if not found:
        known = sorted({stem for stem, _ in files})
        none_yet = "there are no connectors yet; `atlas connector add` makes one"
        hint = (nearest(name, known) or "`atlas connector list` shows them") if known else none_yet
        raise ConfigError(f"there is no connector {name!r}", hint=hint, code="unknown_connector")
    return project / DEFINITIONS / found[0]


def _files(project: Path) -> list[tuple[str, str]]:
    """Names without and with their suffix; as text, for a project may have thousands and ask for each."""
    folder = project / DEFINITIONS
    try:
        with os.scandir(folder) as entries:
            return [
                (os.path.splitext(entry.name)[0], entry.name)
                for entry in entries
                if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".") and not _is_folder(entry)
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"{shown(folder, project)} cannot be read: {error.strerror}", code="folder_unreadable"
        ) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: whoever reads it is told
        return False
