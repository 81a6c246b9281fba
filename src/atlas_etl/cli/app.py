"""The command `atlas`: its groups, the options that every command takes, and how a failure ends it."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from atlas_etl.cli.arguments import hoisted
from atlas_etl.cli.memory import give_back_at_once
from atlas_etl.cli.output import LogFormat, Output
from atlas_etl.cli.session import Session
from atlas_etl.cli.streams import open_standard_streams
from atlas_etl.errors import AtlasError, ExitCode, InterruptedRunError, UsageError


@dataclass(frozen=True, slots=True)
class Group:
    """A command, or a group of them, whose module is imported when it is called."""

    module: str
    summary: str


GROUPS = {
    "quickstart": Group(
        "quickstart", "See rows move, in seconds: a first sync, a change, an incremental sync."
    ),
    "init": Group("init", "Make a project: atlas.yaml, connectors.d/ and a .gitignore."),
    "connector": Group("connector", "Define, test and sync connectors, and see what they did."),
    "query": Group("query", "Ask the warehouse with SQL."),
    "state": Group("state", "See and set how far each stream is committed."),
    "quarantine": Group("quarantine", "See the rows that were refused and kept aside, and load them again."),
    "config": Group("config", "See, check and document the configuration."),
}


class LazyGroup(TyperGroup):
    """A group whose help knows every command's summary without importing one."""

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]  # Typer's own types are private
        name, command, rest = super().resolve_command(ctx, args)
        if name in GROUPS:
            module = importlib.import_module(f"atlas_etl.cli.{GROUPS[name].module}")
            command = typer.main.get_command(module.app)
            command.name = name
        return name, command, rest


app = typer.Typer(
    name="atlas",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Copy tables, files and API resources into a warehouse: only what is new, exactly once.",
    epilog="The options above may stand anywhere. Begin with: atlas quickstart",
)


def _loaded_when_called() -> None:
    """LazyGroup puts the real command in this one's place."""


for _name, _group in GROUPS.items():
    app.command(_name, help=_group.summary)(_loaded_when_called)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"atlas {version('atlas-etl')}\n")
        raise typer.Exit


@app.callback()
def options(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    project: Annotated[
        Path | None, typer.Option("--project", "-C", help="The project's folder.", envvar="ATLAS_PROJECT")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="More; -vv: tracebacks.")] = 0,
    log_format: Annotated[LogFormat, typer.Option(help="How events are written.")] = LogFormat.TEXT,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    output: Output = context.obj
    output.configure(as_json=as_json, quiet=quiet, verbosity=verbose, log_format=log_format)
    context.obj = Session(output, project, dict(os.environ), Path.cwd())


def main() -> None:
    """The console script: run, and end the process with the code that CLI users rely on."""
    open_standard_streams()
    give_back_at_once()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and give back its exit code."""
    output = Output()
    output.configure(
        as_json="--json" in arguments, verbosity=arguments.count("-v") + 2 * arguments.count("-vv")
    )
    command = typer.main.get_command(app)
    try:
        _refuse_bytes(arguments)
        code = command.main(hoisted(arguments), prog_name="atlas", standalone_mode=False, obj=output)
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.DONE
    except AtlasError as failure:
        return output.failure(failure)
    except typer.TyperException as wrong:
        if wrong.format_message().startswith("Usage:"):  # a group without a command: its help
            output.error_line(wrong.format_message())
            return ExitCode.USAGE
        return output.failure(UsageError(wrong.format_message(), hint="`atlas --help` shows what there is"))
    except (typer.Abort, KeyboardInterrupt):
        return output.failure(InterruptedRunError("interrupted"))
    except Exception as bug:  # the last resort: a person gets a sentence, not a traceback
        return output.bug(bug)


def _refuse_bytes(arguments: list[str]) -> None:
    """Raise UsageError where an argument is not text; Python keeps its bytes as halves of surrogate pairs."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the argument {argument!r} is not text in this environment's encoding",
                hint="write it in UTF-8, and set LC_ALL to a UTF-8 locale such as C.UTF-8",
            ) from None
