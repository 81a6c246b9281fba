"""What the destinations of a project are called.

Shell completion runs this: the standard library and PyYAML only.
"""

from __future__ import annotations

from pathlib import Path

from atlas_etl.config.project_folder import DEFAULT_DESTINATION, PROJECT_FILE
from atlas_etl.config.yaml_source import read_mapping


def destination_names(project: Path) -> list[str]:
    """Those that atlas.yaml declares, in its order; where it declares none, the one that is built in.

    Nothing else of the file is checked. Raises ConfigError where it cannot be read.
    """
    path = project / PROJECT_FILE
    declared = read_mapping(path, PROJECT_FILE).values.get("destinations") if path.exists() else None
    return list(declared) if isinstance(declared, dict) and declared else [DEFAULT_DESTINATION]
