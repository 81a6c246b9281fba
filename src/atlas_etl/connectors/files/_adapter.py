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
from atlas_etl.errors import ConfigError
from atlas_etl.model import Stream

Config = TypeVar("Config", bound=FileConnection)


def adapter(
    connection: type[Config],
    reads: Callable[[Config], Format],
    writes: Callable[[Config], Format],
) -> Adapter[Config]:
    """An adapter on the local file system; `writes` raises ConfigError for options that only reading has."""

    def streams(config: Config) -> tuple[Stream, ...]:
        found = groups(_store(config), reads(config), _root(config))
        return tuple(Stream(name, path=path) for name, path in found.items())

    def destination(config: Config) -> FilesDestination:
        if config.follow_links:
            raise ConfigError(
                "follow_links: only for files that are read", hint="remove it", code="option_for_reading"
            )
        return FilesDestination(_store(config), writes(config), _root(config))

    return Adapter(
        connection=connection,
        client=lambda config: SubTreeFileSystem(
            base_folder(_store(config), _root(config)), LocalFileSystem()
        ),
        dispose=lambda _: None,
        connector=lambda config: FilesConnector(config, reads(config), _store(config), _root(config)),
        destination=destination,
        default_streams=streams,
        form=writes,
        shared=True,
    )


def _store(config: FileConnection) -> LocalStore:
    return LocalStore(follow_links=config.follow_links, group_readable=config.group_readable)


def _root(config: FileConnection) -> str:
    return os.path.abspath(config.path)
