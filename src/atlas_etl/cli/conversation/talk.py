"""The whole conversation of `connector add`, from a name to what is to be written; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import Struct
from pydantic import BaseModel

from atlas_etl.api.draft import Draft, Offer
from atlas_etl.cli.conversation.connection import ConnectionQuestions, Known
from atlas_etl.cli.conversation.steps import (
    Choice,
    Confirm,
    Conversation,
    FindStreams,
    LoadModel,
    Pick,
    PreviewRows,
    Say,
    ShowFile,
    ShownRows,
    ShowRows,
    Text,
    TryConnection,
    answer,
    picked,
    say,
)
from atlas_etl.cli.conversation.tables import Wanted, ask_streams, ask_unseen
from atlas_etl.cli.conversation.timing import ask_schedule
from atlas_etl.config.secret_names import reference_to
from atlas_etl.config.yaml_source import Value
from atlas_etl.config.yaml_text import dump
from atlas_etl.errors import AtlasError
from atlas_etl.model import ConnectionStatus

_CORRECT, _SAVE, _SAVE_DISABLED, _STOP = "correct", "save", "disabled", "stop"


class Surroundings(Struct, frozen=True):
    """What the project and this installation offer."""

    protocols: tuple[Choice, ...]
    destinations: tuple[Choice, ...]
    destination: str  # the project's default
    timezone: str  # the project's
    defaults: Callable[[str], Mapping[str, object]]  # atlas.yaml's, by protocol
    check_name: Callable[[str], str]  # raises ValueError
    now: datetime


@dataclass(frozen=True, slots=True)
class Given:
    """What flags say already. `streams` are those of a --query, to be taken as they are."""

    connection: Mapping[str, Value] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    others: Mapping[str, Value] = field(default_factory=dict)  # further keys of the definition
    wanted: Wanted = field(default_factory=Wanted)
    streams: tuple[Value, ...] = ()
    tests: bool = True


class Kind(Struct, frozen=True):
    """What the new connector is called, and of which protocol it is."""

    name: str
    protocol: str
    model: type[BaseModel]


def ask_kind(name: str | None, protocol: str | None, around: Surroundings) -> Conversation[Kind]:
    """The first two questions, as far as flags leave them open."""
    yield from say(
        "A new connector. Enter takes what stands in [brackets]; Ctrl-C stops, and nothing is written."
    )
    if name is None:
        name = yield from answer(Text("name, which is also the file's", check=around.check_name), str)
    return Kind(name, *(yield from _ask_protocol(protocol, around)))


def ask_all(kind: Kind, given: Given, around: Surroundings) -> Conversation[Draft | None]:
    """What is to be written; None where the person wants nothing written."""
    name, protocol, model = kind.name, kind.protocol, kind.model
    secrets = dict(given.secrets)
    values: dict[str, Value] = {"protocol": protocol}
    if "description" in given.others:
        values["description"] = given.others["description"]
    reached = yield from _ask_connection(name, model, given, around, values, secrets)
    if reached is None:
        return None
    draft = Draft(name, values, secrets)
    streams = yield from _ask_streams(draft, given, reached=reached)
    if streams:
        values["streams"] = streams
    yield from _ask_rest(values, given, around)
    if reached and (streams or "streams" not in values):
        yield from _preview(draft)
    text = dump(values)
    for secret in [*secrets]:  # one that was typed before a reference took its place
        if reference_to(secret) not in text:
            del secrets[secret]
    yield ShowFile(f"connectors.d/{name}.yaml", text)
    return draft if (yield from answer(Confirm("write it?"), bool)) else None


def _ask_protocol(wanted: str | None, around: Surroundings) -> Conversation[tuple[str, type[BaseModel]]]:
    while True:
        question = Pick("protocol, the kind of system", around.protocols)
        name = wanted or (yield from picked(question))
        found = yield LoadModel(name)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return name, found
        wanted = None
        yield from say(_told(found))


def _ask_connection(  # noqa: PLR0917  # what a connection is made of
    name: str,
    model: type[BaseModel],
    given: Given,
    around: Surroundings,
    values: dict[str, Value],
    secrets: dict[str, str],
) -> Conversation[bool | None]:
    """Puts the connection into `values`. Whether it works; None where the person gives up."""
    defaults = around.defaults(str(values["protocol"]))
    known = given.connection
    again = False
    while True:
        yield Say("")
        asking = ConnectionQuestions(name, model, Known(known, defaults), secrets)
        known = yield from asking.ask(again=again)
        values["connection"] = {**known}
        if not given.tests:
            return False
        result = yield TryConnection(Draft(name, values, secrets))
        if isinstance(result, ConnectionStatus):
            version = f", {result.server_version}" if result.server_version else ""
            warnings = "".join(f"\nwarning: {warning}" for warning in result.warnings)
            yield from say(f"It works: {result.message}{version}{warnings}")
            return True
        yield from say(_told(result))
        then = yield from picked(_AFTER_FAILURE)
        if then == _STOP:
            return None
        if then == _SAVE_DISABLED:
            values["enabled"] = False
        if then != _CORRECT:
            return False
        again = True


_AFTER_FAILURE = Pick(
    "what now?",
    (
        Choice(_CORRECT, "ask for the connection again"),
        Choice(_SAVE, "go on, and save it although it does not work yet"),
        Choice(_SAVE_DISABLED, "the same, and keep the schedule from running it"),
        Choice(_STOP, "write nothing"),
    ),
    _CORRECT,
)


def _ask_streams(draft: Draft, given: Given, *, reached: bool) -> Conversation[list[Value]]:
    if given.streams:
        return [*given.streams]
    if not reached:
        return (yield from ask_unseen(given.wanted))
    found = yield FindStreams(draft)
    if isinstance(found, Offer):
        return (yield from ask_streams(draft, found, given.wanted))
    yield from say(_told(found))
    return (yield from ask_unseen(given.wanted))


def _ask_rest(values: dict[str, Value], given: Given, around: Surroundings) -> Conversation[None]:
    """Destination, schedule, and what flags say of the rest, in the order of a definition."""
    others = dict(given.others)
    yield Say("")
    if "destination" not in others and len(around.destinations) > 1:
        name = yield from picked(Pick("destination", around.destinations, around.destination))
        if name != around.destination:
            others["destination"] = name
    elif "destination" not in others:
        only = around.destinations[0]
        yield from say(f"destination: {only.value}, {only.detail}")
    others |= yield from ask_schedule(others, around.timezone, around.now)
    for key in ("destination", "schedule", "timezone"):
        if key in others:
            values[key] = others.pop(key)
    if "enabled" in values:  # after what was just put there
        others["enabled"] = values.pop("enabled")
    values |= {key: value for key, value in others.items() if key not in values}


def _preview(draft: Draft) -> Conversation[None]:
    found = yield PreviewRows(draft)
    if isinstance(found, ShownRows):
        yield from say(f"\nthe first rows of {found.stream}:" if found.rows else f"\n{found.stream} is empty")
        if found.rows:
            yield ShowRows(found.columns, found.rows)
    else:
        yield from say(_told(found))


def _told(failure: object) -> str:
    """An error for people. Raises TypeError where it is something else."""
    if not isinstance(failure, AtlasError):
        raise TypeError(f"a step was answered by {type(failure).__name__}")
    return f"It did not work: {failure.message}" + (f"\n  hint: {failure.hint}" if failure.hint else "")
