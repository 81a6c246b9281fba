"""What may stand for a name on a command line that is being typed.

Shell completion runs this: standard library only. Where a project is wrong, nothing is offered.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from atlas_etl.cli import explanations
from atlas_etl.config.folder import definition_names
from atlas_etl.config.project_folder import find_project_folder
from atlas_etl.config.secret_references import used_secrets
from atlas_etl.errors import AtlasError


class Line(NamedTuple):
    """What stands on the command line already: `-C`, and the command's arguments, which are no options."""

    project: Path | None
    arguments: tuple[str, ...] = ()

    def folder(self) -> Path:
        """The project's folder. Raises ConfigError where a folder was named that is not there."""
        return find_project_folder(self.project, os.environ, Path.cwd())


def connectors(line: Line) -> list[str]:
    """The connectors of the project."""
    try:
        return definition_names(line.folder())
    except AtlasError:
        return []


def secrets(line: Line) -> list[str]:
    """The secrets that the project's files refer to, stored or not."""
    try:
        return sorted(used_secrets(line.folder()))
    except AtlasError:
        return []


def error_codes(_line: Line) -> list[str]:
    """The codes of errors that have a page."""
    return explanations.codes()
