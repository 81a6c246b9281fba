"""Commands that are imported when they are called: a group's help needs only their names and summaries."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import typer
from msgspec import Struct
from typer.core import TyperGroup


class Command(Struct, frozen=True):
    """A command, or a group of them: a Typer app or a function, by its name in a module of this package."""

    module: str
    summary: str
    name: str = "app"

    def found(self) -> Any:
        """The function, or the Typer app; imported now."""
        return getattr(_imported(f"atlas_etl.cli.{self.module}"), self.name)

    def load(self) -> Any:  # Typer's own types are private
        """The same as what Typer runs."""
        found = self.found()
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command()(found)
        return typer.main.get_command(app)


def lazy_app(
    commands: Mapping[str, Command],
    summary: str,
    *,
    name: str | None = None,
    epilog: str | None = None,
    completes: bool = False,
) -> typer.Typer:
    """A group of these commands."""

    class LazyGroup(TyperGroup):
        def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]
            called, command, rest = super().resolve_command(ctx, args)
            if called is not None and called in commands:
                command = commands[called].load()
                command.name = called
            return called, command, rest

    app = typer.Typer(
        name=name,
        cls=LazyGroup,
        add_completion=completes,
        no_args_is_help=True,
        rich_markup_mode=None,
        help=summary,
        epilog=epilog,
    )
    for called, command in commands.items():
        app.command(called, help=command.summary)(_loaded_when_called)
    return app


def _loaded_when_called() -> None:
    """LazyGroup puts the real command in this one's place."""


def _imported(module: str) -> ModuleType:
    """What is imported stays: looking for garbage in it, then and later, would take a tenth of a sync."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()
