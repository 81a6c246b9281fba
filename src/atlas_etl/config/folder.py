"""connectors.d/: which definitions there are, and in which files.

Shell completion runs this: standard library only.
"""

from __future__ import annotations

from pathlib import Path

from atlas_etl.config.project_folder import DEFINITIONS, shown
from atlas_etl.errors import ConfigError, nearest

SUFFIXES = (".yaml", ".yml", ".json")


def definition_names(project: Path) -> list[str]:
    """The names of all definitions, sorted; none where there is no folder. Raises ConfigError."""
    return sorted({path.stem for path in _files(project)})


def definition_path(project: Path, name: str) -> Path:
    """The one file that defines `name`.

    Raises ConfigError: `unknown_connector` with the nearest names, `ambiguous_definition` where two
    files define it. Case tells no two apart: environment variables and most warehouses have none.
    """
    files = _files(project)
    found = sorted(path for path in files if path.stem == name)
    alike = sorted(path for path in files if path.stem.casefold() == name.casefold())
    if found and len(alike) > 1:
        names = " and ".join(shown(path, project) for path in alike)
        same = len(alike) == len(found)
        raise ConfigError(
            f"{names} both define connector {name!r}",
            hint="remove one of them" if same else "rename or remove one: case does not tell two names apart",
            code="ambiguous_definition",
            connector=name,
        )
    if not found:
        known = sorted({path.stem for path in files})
        none_yet = "there are no connectors yet; `atlas connector add` makes one"
        hint = (nearest(name, known) or "`atlas connector list` shows them") if known else none_yet
        raise ConfigError(f"there is no connector {name!r}", hint=hint, code="unknown_connector")
    return found[0]


def _files(project: Path) -> list[Path]:
    folder = project / DEFINITIONS
    try:
        return [
            path
            for path in folder.iterdir()
            if path.suffix in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"{shown(folder, project)} cannot be read: {error.strerror}", code="folder_unreadable"
        ) from None
