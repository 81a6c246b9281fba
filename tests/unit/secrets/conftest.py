"""A store of secrets in a folder, or in a server's table, opened with whichever keys."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from atlas_etl.contracts import SecretShelf
from atlas_etl.secrets.file import FileShelf
from atlas_etl.secrets.keys import key_source
from atlas_etl.secrets.store import SecretStore
from atlas_etl.state import open_state_store

Opened = Callable[..., SecretStore]


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".atlas"


@pytest.fixture
def opened(folder: Path) -> Opened:
    """A function: the store as a process with these keys sees it; without any, by the key file."""
    return opened_on(FileShelf(folder), folder)


@pytest.fixture(params=["file", "table"])
def anywhere(request: pytest.FixtureRequest, folder: Path) -> Iterator[Opened]:
    """The same, and over the table of a PostgreSQL state store."""
    if request.param == "file":
        yield opened_on(FileShelf(folder), folder)
        return
    with closing(open_state_store(request.getfixturevalue("postgres").url("postgresql"))) as state:
        yield opened_on(state.secrets, folder)


def opened_on(shelf: SecretShelf, folder: Path) -> Opened:
    def open_with(*keys: str) -> SecretStore:
        environ = {"ATLAS_SECRET_KEY": ",".join(keys)} if keys else {}
        return SecretStore(shelf, key_source(folder, environ, in_keyring=False))

    return open_with
