"""`atlas connector`: the group; its commands live beside it."""

from __future__ import annotations

from collections.abc import Callable

import typer

from atlas_etl.cli import connector_define, connector_inspect, connector_sync, connector_verify

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Define, test and sync connectors, and see what they did.",
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "types": connector_inspect.types,
    "add": connector_define.add,
    "list": connector_inspect.show_list,
    "show": connector_inspect.show,
    "update": connector_define.update,
    "remove": connector_define.remove,
    "enable": connector_define.enable,
    "disable": connector_define.disable,
    "test": connector_inspect.try_connections,
    "discover": connector_inspect.discover,
    "preview": connector_inspect.preview,
    "sync": connector_sync.sync,
    "history": connector_sync.history,
    "verify": connector_verify.verify,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
