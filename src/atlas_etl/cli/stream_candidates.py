"""The streams that may be named on a command line that is being typed: those of its connectors.

Shell completion runs this; beside the standard library it brings in PyYAML.
"""

from __future__ import annotations

import os

from atlas_etl.cli.candidates import Line
from atlas_etl.config.stream_names import stream_names
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError


def streams(line: Line) -> list[str]:
    """The streams that the definitions of the line's connectors name, or their protocols offer."""
    found: dict[str, None] = {}
    for connector in line.arguments:
        try:
            found |= dict.fromkeys(stream_names(line.folder(), connector, os.environ, registry.preset))
        except AtlasError:
            continue
    return list(found)
