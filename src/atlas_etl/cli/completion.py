"""Names that the shell completes; standard library and the definitions' folder only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.cli import explanations
from atlas_etl.config.folder import definition_names
from atlas_etl.config.project_folder import find_project_folder
from atlas_etl.errors import AtlasError


def connectors(incomplete: str) -> list[str]:
    """The connectors of the project whose names begin so."""
    try:
        folder = find_project_folder(None, os.environ, Path.cwd())
        return [name for name in definition_names(folder) if name.startswith(incomplete)]
    except AtlasError:
        return []


def error_codes(incomplete: str) -> list[str]:
    """The codes of errors that have a page and begin so."""
    return [code for code in explanations.codes() if code.startswith(incomplete)]


Name = Annotated[str, typer.Argument(metavar="NAME", help="The connector.", autocompletion=connectors)]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="The connectors.", autocompletion=connectors),
]
