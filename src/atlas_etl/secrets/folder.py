"""The folder of a project's own files, which is nobody else's business and no part of its repository."""

from __future__ import annotations

from pathlib import Path

from atlas_etl.config.atomic import ORDINARY, write_atomically
from atlas_etl.errors import ConfigError

FOLDER = ".atlas"


def make_private_folder(folder: Path) -> None:
    """Make it where it is missing, for its owner only (0700), and tell git to ignore what it holds.

    Raises ConfigError (`file_unwritable`).
    """
    try:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)  # whatever the umask
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}", code="file_unwritable") from None
    ignored = folder / ".gitignore"
    if not ignored.exists():
        write_atomically(ignored, "*\n", ORDINARY)
