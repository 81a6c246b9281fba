"""The reference pages of the documentation, made from the commands and the connection models themselves.

python scripts/reference.py docs            writes cli.md, errors.md, errors/, protocols.md and protocols/,
                                            and what completion reads: src/atlas_etl/cli/commands.json
python scripts/reference.py docs --check    fails where they are not what it would write

What no model knows of a protocol is written by hand, in docs/protocols/_notes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from command_tree import commands_json
from pydantic.json_schema import JsonSchemaValue
from typer.core import TyperGroup

from atlas_etl.cli import command_file, connector, explanations, schedule
from atlas_etl.cli.app import GROUPS, app
from atlas_etl.connectors import registry

_WIDTH = 100
_TYPE_NAMES = """## Names of types

Rows travel as Apache Arrow. Pages name its types as `atlas connector plan` does: `text` is utf8, `double`
float64, `float` float32, `decimal(12,2)` decimal128 (decimal256 past 38 digits), `decimal` a number of any
digits (texts in an extension type, `atlas.decimal`, for Arrow has none), `timestamp` has microseconds
(`timestamp(ns)` nanoseconds) and no zone, `timestamp with time zone` is an instant in UTC, `time` a time of
day in microseconds, `date` date32, `uuid` and `json` are Arrow's extension types, `int32[]` is a list.

A *hazard* is a value that has no exact form in its column's type. The load stops with its row's key, unless
the stream's `hazards` say `null`, `text` or `quarantine` for it ([value_hazard](errors/value_hazard.md))."""
_LAZY = {"connector": connector.COMMANDS, "schedule": schedule.COMMANDS}


def cli_page() -> str:
    """Every command's help."""
    parts = ["# Commands", "", "Made from `atlas --help` and the help of every command.", ""]
    for path, text in _helps():
        parts += [f"## `{path}`", "", "```", text, "```", ""]
    return "\n".join(parts)


def _helps() -> Iterator[tuple[str, str]]:
    root = typer.main.get_command(app)
    yield "atlas", _help(root, "atlas", None)
    for name, group in GROUPS.items():
        command = group.load()
        yield f"atlas {name}", _help(command, name, "atlas")
        if isinstance(command, TyperGroup):
            lazy = _LAZY.get(name, {})
            for inner_name, inner in command.commands.items():
                loaded = lazy[inner_name].load() if inner_name in lazy else inner
                path = f"atlas {name} {inner_name}"
                yield path, _help(loaded, inner_name, f"atlas {name}")
                if isinstance(loaded, TyperGroup):
                    for last_name, last in loaded.commands.items():
                        yield f"{path} {last_name}", _help(last, last_name, path)


def _help(command, name: str, parent: str | None) -> str:  # type: ignore[no-untyped-def]  # Typer's own
    info = f"{parent} {name}" if parent else name
    context = command.make_context(
        info, [], resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH
    )
    lines = str(command.get_help(context)).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def errors_page() -> str:
    """The errors that have a page."""
    parts = [
        "# Errors",
        "",
        "What is said when something goes wrong ends with the command that explains it: `atlas explain CODE`",
        "prints the page, without a network. With `--json` every error has its code. These have a page:",
        "",
        "| code | what it is |",
        "|---|---|",
    ]
    parts += [
        f"| [`{code}`](errors/{code}.md) | {explanations.summary(code)} |" for code in explanations.codes()
    ]
    return "\n".join([*parts, ""])


def protocols_page() -> str:
    """Every protocol, and what it is."""
    parts = [
        "# Protocols",
        "",
        "What can be read and written. Each page has an example, all options, types, permissions and limits.",
        "",
        "| protocol | what it is | read | written | to install |",
        "|---|---|---|---|---|",
    ]
    for info in _documented():
        read, written = ("yes" if can else "" for can in (info.reads, info.writes))
        page = f"[{info.protocol}](protocols/{info.protocol}.md)"
        parts.append(f"| {page} | {info.summary} | {read} | {written} | {_extra(info)} |")
    return "\n".join([*parts, "", _TYPE_NAMES, ""])


def protocol_page(info: registry.ProtocolInfo, notes: str) -> str:
    """A protocol's options, from its model, within what is written by hand of it."""
    does = " and ".join(word for word, can in (("read", info.reads), ("written", info.writes)) if can)
    parts = [f"# {info.protocol}", "", f"{_sentence(info.summary)}. It is {does}.", ""]
    if info.aliases:
        parts += [f"Also called {', '.join(f'`{alias}`' for alias in info.aliases)}.", ""]
    if info.extra:
        parts += [f"Needs `{info.install_hint}`.", ""]
    schema = registry.load(info.protocol).connection.model_json_schema()
    if info.preset is not None:
        parts += [schema["description"], ""]
    example, heading, rest = notes.partition("## Types\n")
    options = ["## Options", "", "Keys of `connection`.", "", *_keys(schema)]
    for name, inner in schema.get("$defs", {}).items():
        if "properties" in inner:
            options += [f"### {name}", "", inner.get("description", ""), "", *_keys(inner)]
    return "\n".join([*parts, example.rstrip(), "", *options, heading + rest.rstrip(), ""])


def _documented() -> tuple[registry.ProtocolInfo, ...]:
    """The protocols of this package, whatever others are installed."""
    return tuple(info for info in registry.protocols() if registry.is_built_in(info.protocol))


def _extra(info: registry.ProtocolInfo) -> str:
    return f"`{info.install_hint}`" if info.extra else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _keys(schema: JsonSchemaValue) -> list[str]:
    """A model's keys as a table, those that are needed first."""
    needed = schema.get("required", [])
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for name, field in sorted(schema["properties"].items(), key=lambda item: item[0] not in needed):
        given = field.get("default")
        default = "" if given is None or isinstance(given, dict) else f"`{given}`"
        text = field.get("description", "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(field)} | {default} | {text} |")
    return [*rows, ""]


def _type(field: JsonSchemaValue) -> str:
    choices: list[JsonSchemaValue] = field.get("anyOf", [field])
    if any(choice.get("format") == "password" for choice in choices):
        return "secret"
    names = [_named(choice) for choice in choices]
    return " or ".join(name for name in names if name != "null")


def _named(choice: JsonSchemaValue) -> str:
    if "enum" in choice:
        return ", ".join(f"`{value}`" for value in choice["enum"])
    inner = choice.get("additionalProperties")
    if isinstance(inner, dict) and (name := _type(inner)):
        return f"object of {name}"
    return str(choice.get("type") or choice.get("$ref", "")).rpartition("/")[2]


def _pages(folder: Path) -> Iterator[tuple[Path, str]]:
    notes = folder / "protocols" / "_notes"
    yield command_file.COMMANDS, commands_json()
    yield folder / "cli.md", cli_page()
    yield folder / "errors.md", errors_page()
    for code in explanations.codes():
        yield folder / f"errors/{code}.md", explanations.page(code)
    yield folder / "protocols.md", protocols_page()
    for info in _documented():
        written = (notes / f"{info.protocol}.md").read_text(encoding="utf-8")
        yield folder / f"protocols/{info.protocol}.md", protocol_page(info, written)


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    folder = Path(arguments[0])
    stale = 0
    for page, text in _pages(folder):
        if "--check" not in arguments:
            page.parent.mkdir(exist_ok=True, parents=True)
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{page} is out of date: run scripts/docs\n")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
