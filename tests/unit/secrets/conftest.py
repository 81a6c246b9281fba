"""A store of secrets in a folder, opened with whichever keys."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from atlas_etl.secrets.file import FileShelf
from atlas_etl.secrets.keys import key_source
from atlas_etl.secrets.store import SecretStore

Opened = Callable[..., SecretStore]


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".atlas"


@pytest.fixture
def opened(folder: Path) -> Opened:
    """A function: the store as a process with these keys sees it; without any, by the key file."""

    def open_with(*keys: str) -> SecretStore:
        environ = {"ATLAS_SECRET_KEY": ",".join(keys)} if keys else {}
        return SecretStore(FileShelf(folder), key_source(folder, environ, in_keyring=False))

    return open_with
