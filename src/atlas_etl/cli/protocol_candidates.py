"""The protocols that may be named on a command line that is being typed, those of other packages too.

Shell completion runs this: standard library only, and of that importlib.metadata.
"""

from __future__ import annotations

from atlas_etl.cli.candidates import Line
from atlas_etl.connectors import registry


def protocols(_line: Line) -> list[str]:
    """Every protocol's name."""
    return registry.names()
