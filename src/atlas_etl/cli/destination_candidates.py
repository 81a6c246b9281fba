"""The destinations that may be named on a command line that is being typed.

Shell completion runs this; beside the standard library it brings in PyYAML.
"""

from __future__ import annotations

from atlas_etl.cli.candidates import Line
from atlas_etl.config.destination_names import destination_names
from atlas_etl.errors import AtlasError


def destinations(line: Line) -> list[str]:
    """The destinations of the project."""
    try:
        return destination_names(line.folder())
    except AtlasError:
        return []
