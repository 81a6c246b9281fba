"""What every protocol of the files family offers, made from its connection model and its formats."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.files._destination import FilesDestination
from atlas_etl.connectors.files._format import FileConnection, Format
from atlas_etl.connectors.files._reader import FilesConnector
from atlas_etl.connectors.files._select import base_folder, groups
from atlas_etl.connectors.files._store import LocalStore
from atlas_etl.model import Stream

Config = TypeVar("Config", bound=FileConnection)


def adapter(
    connection: type[Config],
    reads: Callable[[Config], Format],
    writes: Callable[[Config], Format],
) -> Adapter[Config]:
    """An adapter on the local file system; `writes` raises ConfigError for options that only reading has."""
    store = LocalStore()

    def streams(config: Config) -> tuple[Stream, ...]:
        found = groups(store, reads(config), _root(config))
        return tuple(Stream(name, path=path) for name, path in found.items())

    return Adapter(
        connection=connection,
        client=lambda config: SubTreeFileSystem(base_folder(store, _root(config)), LocalFileSystem()),
        dispose=lambda _: None,
        connector=lambda config: FilesConnector(config, reads(config), store, _root(config)),
        destination=lambda config: FilesDestination(store, writes(config), _root(config)),
        default_streams=streams,
        shared=True,
    )


def _root(config: FileConnection) -> str:
    return os.path.abspath(config.path)
