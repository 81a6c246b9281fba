"""One command's surroundings: where the project is, what the environment says, where output goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atlas_etl.cli.output import Output
from atlas_etl.config.project_folder import find_project_folder


@dataclass(frozen=True, slots=True)
class Session:
    """What every command gets as its context's object."""

    output: Output
    explicit_project: Path | None
    environ: Mapping[str, str] = field(repr=False)
    start: Path

    @property
    def project(self) -> Path:
        """The project's folder. Raises ConfigError where a folder was named that is not there."""
        return find_project_folder(self.explicit_project, self.environ, self.start)
