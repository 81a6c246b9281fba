"""Which stored secrets the files of a project refer to.

Shell completion runs this: standard library only.
"""

from __future__ import annotations

import re
from pathlib import Path

from atlas_etl.config.folder import SUFFIXES
from atlas_etl.config.project_folder import DEFINITIONS, PROJECT_FILE
from atlas_etl.config.regular import open_regular
from atlas_etl.config.secret_names import PROTECT_KEY

_PROTECTS = re.compile(r"\bprotect[\"']?\s*:")
_STORED = re.compile(r"\$\{secret:([^{}]*)\}")


def stored_name(text: str) -> str | None:
    """The secret that a text refers to, where it is that reference and nothing else."""
    match = _STORED.fullmatch(text)
    return match[1] if match else None


def used_secrets(project: Path) -> set[str]:
    """The stored secrets that any definition or atlas.yaml needs, whatever else is wrong with them."""
    files = [file for file in (project / DEFINITIONS).glob("*") if file.suffix in SUFFIXES]
    texts = [_text(file) for file in (*files, project / PROJECT_FILE)]
    keys = {PROTECT_KEY} if any(_PROTECTS.search(text) for text in texts) else set()
    return keys.union(name for text in texts for name in _STORED.findall(text))


def _text(file: Path) -> str:
    try:
        with open_regular(file) as opened:
            return opened.read().decode("utf-8", "replace")
    except OSError:
        return ""
