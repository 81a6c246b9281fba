"""Files that hold secrets are their owner's, perhaps a group's: one that everybody may read is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from atlas_etl.errors import ConfigError

_MOUNTED = (Path("/run/secrets"), Path("/var/run/secrets"))  # by container runtimes, for the container alone


def refuse_exposed_to_all(path: Path) -> None:
    """Raises ConfigError (`exposed_secret`) where every user of this machine can reach and read it."""
    file = path.resolve()
    if any(path.is_relative_to(folder) for folder in _MOUNTED):
        return
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in file.parents):
        refuse_exposed(path, file.stat())


def refuse_exposed(path: Path, found: os.stat_result) -> None:
    """Raises ConfigError (`exposed_secret`) where every user of this machine may read or write the file."""
    if found.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError(
            f"{path} holds secrets, and every user of this machine may read it or write to it",
            hint=f"chmod o-rwx {path}; if others were here, its secrets are theirs too: replace them",
            code="exposed_secret",
        )
