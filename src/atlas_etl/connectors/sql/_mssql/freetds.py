"""FreeTDS's own configuration: the one place where it takes whom to trust, which no call of the driver does.

Each distinct server has a section in one file of this process, by whose name the driver finds it
(https://www.freetds.org/userguide/freetdsconf.html). So no freetds.conf of the machine has a say in it.
Neither an account nor a password is ever written there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from atlas_etl.temporary import Purpose, TemporaryFolder

Settings = Mapping[str, str]

_FILE = "FREETDSCONF"  # the environment variable that FreeTDS reads at each login
_lock = threading.Lock()
_sections: dict[str, str] = {}  # a section's text -> its name
_folders: list[TemporaryFolder] = []


def section(settings: Settings) -> str:
    """The name under which FreeTDS finds these settings. Raises ValueError for one of several lines."""
    if any(letter < " " for value in settings.values() for letter in value):
        raise ValueError("a setting has control characters in it")
    text = "".join(f"  {name} = {value}\n" for name, value in settings.items())
    with _lock:
        if text not in _sections:
            _sections[text] = f"atlas{len(_sections) + 1}"
            _write()
        return _sections[text]


def _write() -> None:
    if not _folders:
        _folders.append(TemporaryFolder(Purpose.FREETDS))
    path, written = _folders[0].path / "freetds.conf", _folders[0].path / "written"
    written.write_text("".join(f"[{name}]\n{text}" for text, name in _sections.items()), encoding="utf-8")
    written.replace(path)
    os.environ[_FILE] = str(path)
