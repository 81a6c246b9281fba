"""The command `atlas`: its groups, the options that every command takes, and how a failure ends it."""

from __future__ import annotations

import atexit
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from atlas_etl.cli.arguments import hoisted
from atlas_etl.cli.command_file import commands_called
from atlas_etl.cli.crashes import redact_crashes
from atlas_etl.cli.lazy import Command, lazy_app
from atlas_etl.cli.memory import give_back_at_once
from atlas_etl.cli.output import LogFormat, Output
from atlas_etl.cli.session import Session
from atlas_etl.cli.streams import open_standard_streams
from atlas_etl.config.atomic import keep_new_files_private
from atlas_etl.errors import AtlasError, ConfigError, ExitCode, InterruptedRunError, UsageError, nearest

GROUPS = {
    "quickstart": Command(
        "quickstart", "See rows move, in seconds: a first sync, a change, an incremental sync."
    ),
    "copy": Command("copy", "Copy tables from one URI to another: one line, no file, only what is new."),
    "load": Command("load", "Load files or standard input into a table, each file once."),
    "init": Command("init", "Make a project: atlas.yaml, connectors.d/ and a .gitignore."),
    "connector": Command("connector", "Define, test and sync connectors, and see what they did."),
    "schedule": Command("schedule", "Run connectors when they are due, here or by another scheduler."),
    "watch": Command(
        "watch", "Follow what runs now, here or in another terminal, and see what comes next.", "watch"
    ),
    "query": Command("query", "Ask the warehouse with SQL."),
    "state": Command("state", "See and set how far each stream is committed."),
    "quarantine": Command(
        "quarantine", "See the rows that were refused and kept aside, and load them again."
    ),
    "report": Command("report", "Runs, rows, durations, failures and freshness as one HTML page."),
    "audit": Command("audit", "Who changed what: definitions, secrets, checkpoints, schedules, breakers."),
    "secret": Command("secret", "Keep passwords and tokens encrypted; definitions refer to them."),
    "explain": Command("explain", "What an error means, why it comes about, and what to do."),
    "reveal": Command("reveal", "Turn tokens of `protect` back into values, with this project's key."),
    "dev": Command("dev", "For those who add to Atlas: a new protocol, as a package or in a checkout."),
    "config": Command("config", "See, check and document the configuration."),
}

# What Typer says of a name that is not there, and of a value that is not one of those that it lists.
_UNKNOWN = re.compile(
    r"(?P<told>No such \w+:? '?(?P<name>[^' ]+?)'?)"
    r"(?:\. Did you mean | \(Possible options: )(?P<known>.+)[?)]"
)
_NO_COMMAND = re.compile(r"No such command '(?P<name>[^']+)'.*")
_LISTED = re.compile(r".*: '(?P<name>[^']*)' is not one of (?P<known>.+)", re.DOTALL)

app = lazy_app(
    GROUPS,
    "Copy tables, files and API resources into a warehouse: only what is new, exactly once.",
    name="atlas",
    completes=True,
    epilog="The options above may stand anywhere. Begin with: atlas quickstart",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # a tenth of the time that the help takes

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
    context.obj = Session(output, project, dict(os.environ), _working_folder())


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "the folder that this command was started in is there no longer",
            hint="go to one that is there, such as by `cd`",
            code="no_working_folder",
        ) from None


def main() -> None:
    """Run, and end the process with the code that CLI users rely on."""
    open_standard_streams()
    redact_crashes()
    give_back_at_once()
    keep_new_files_private()
    _end(run(sys.argv[1:]))


def _end(code: int) -> NoReturn:
    """End the process as sys.exit does, but for taking every module apart: a sixth of a small sync's time."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AtlasError, OSError, ValueError):  # `run` has told of what could not be written
            stream.flush()
    os._exit(code)


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
        if code == ExitCode.INTERRUPTED and not output.has_told_failure:  # Typer took the KeyboardInterrupt
            return output.failure(InterruptedRunError("interrupted"))
        return code if isinstance(code, int) else ExitCode.DONE
    except AtlasError as failure:
        return output.failure(failure)
    except typer.TyperException as wrong:
        context: typer.Context | None = getattr(wrong, "ctx", None)
        if wrong.format_message().startswith("Usage:"):  # a group without a command: its help
            if output.as_json and context is not None:
                return output.failure(_missing_command(context))
            output.error_line(wrong.format_message())
            return ExitCode.USAGE
        return output.failure(
            _usage_error(wrong.format_message(), context.command_path if context else "atlas")
        )
    except (typer.Abort, KeyboardInterrupt):
        return output.failure(InterruptedRunError("interrupted"))
    except Exception as bug:  # the last resort: a person gets a sentence, not a traceback
        return output.bug(bug)


def _missing_command(context: typer.Context) -> UsageError:
    """The same for whoever wants JSON."""
    group = context.command
    known = ", ".join(group.list_commands(context)) if isinstance(group, TyperGroup) else ""
    return UsageError(f"`{context.command_path}` needs a command", hint=f"its commands are {known}")


def _usage_error(message: str, command: str) -> UsageError:
    """The parser's own words, with what it says of near names, and of an option's values, as a hint."""
    message = message.replace("Value error, ", "")
    near = None
    no_command = _NO_COMMAND.fullmatch(message)
    if no_command and (found := commands_called(no_command["name"])):
        message = f"No such command {no_command['name']!r}"
        near = f"did you mean {' or '.join(found)}?"
    elif unknown := _UNKNOWN.fullmatch(message):
        message, name = unknown["told"], unknown["name"]
        near = nearest(name, (known.strip("'") for known in unknown["known"].split(", ")))
    elif listed := _LISTED.fullmatch(message):
        near = nearest(listed["name"], re.findall(r"'([^']+)'", listed["known"]))
    return UsageError(message, hint=near or f"`{command} --help` shows what there is")


def _refuse_bytes(arguments: list[str]) -> None:
    """Raise UsageError where an argument is not text; Python keeps its bytes as halves of surrogate pairs."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            key, equals, _ = argument.partition("=")  # what comes behind it may be a secret
            shown = f"{key}=..." if equals else argument
            raise UsageError(
                f"the argument {shown!r} is not text in this environment's encoding",
                hint="write it in UTF-8, and set LC_ALL to a UTF-8 locale such as C.UTF-8",
            ) from None
