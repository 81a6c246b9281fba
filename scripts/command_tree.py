"""The commands as shell completion knows them, read from the commands themselves.

`scripts/docs` writes them to src/atlas_etl/cli/commands.json; with --check it fails where they differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

from atlas_etl.cli.app import app
from atlas_etl.cli.completion import Completes


def commands_json() -> str:
    """A line for each command, by its words behind `atlas`; `CommandEntry` says what is in it."""
    root = typer.main.get_command(app)
    lines = [
        f"{json.dumps(' '.join(words))}: {json.dumps(entry, ensure_ascii=False)}"
        for words, entry in _entries(root, (), None, root.get_short_help_str())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _entries(
    command: Any, words: tuple[str, ...], parent: typer.Context | None, summary: str
) -> Iterator[tuple[tuple[str, ...], dict[str, object]]]:
    context = typer.Context(command, parent=parent, info_name=words[-1] if words else "atlas")
    params = command.get_params(context)
    names = command.list_commands(context) if isinstance(command, TyperGroup) else []
    yield (
        words,
        {
            "help": summary,
            "commands": names,
            "options": [
                _option(param) for param in params if isinstance(param, TyperOption) and not param.hidden
            ],
            "arguments": [
                {"many": param.nargs != 1, **_values(param)}
                for param in params
                if not isinstance(param, TyperOption)
            ],
        },
    )
    for name in names:
        _, inner, _ = command.resolve_command(context, [name])
        yield from _entries(inner, (*words, name), context, command.commands[name].get_short_help_str())


def _option(option: Any) -> dict[str, object]:
    return {
        "names": [*option.opts, *option.secondary_opts],
        "help": option.help,
        "takes_value": not (option.is_flag or option.count),
        "repeats": option.multiple,
        **_values(option),
    }


def _values(param: Any) -> dict[str, object]:
    known = getattr(param.type_descriptor.parameter_info.autocompletion, "__self__", None)
    if isinstance(known, Completes):
        function = known.candidates
        return {"candidates": f"{function.__module__}:{function.__qualname__}"}
    choices = param.type_descriptor.choices
    return {} if choices is None else {"values": [getattr(choice, "value", choice) for choice in choices]}
