"""The conversation of `connector add` as values: steps out, answers in, a definition at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from msgspec.structs import replace

from atlas_etl.api.cursor_advice import Sample
from atlas_etl.api.draft import Draft, Offer
from atlas_etl.cli.conversation.picking import Picked, read_pick
from atlas_etl.cli.conversation.steps import (
    Choice,
    Confirm,
    Conversation,
    FindStreams,
    LoadModel,
    Pick,
    PreviewRows,
    SampleColumns,
    Say,
    ShowFile,
    ShownRows,
    ShowRows,
    Step,
    Text,
    TryConnection,
)
from atlas_etl.cli.conversation.tables import MOST_SAMPLED, Wanted
from atlas_etl.cli.conversation.talk import Given, Kind, Surroundings, ask_all, ask_kind
from atlas_etl.connectors import registry
from atlas_etl.errors import MissingDriverError, SourceError
from atlas_etl.model import ColumnInfo, ConnectionStatus, Disposition, Stream, StreamInfo

T = TypeVar("T")
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ORDERS = StreamInfo(
    "public.orders",
    (ColumnInfo("id", "bigint", False), ColumnInfo("updated_at", "timestamptz", False)),
    ("id",),
    ("updated_at", "id"),
    12_000,
    frozenset({"id", "updated_at"}),
)
LOGS = replace(ORDERS, name="logs", primary_key=(), estimated_rows=None)
AROUND = Surroundings(
    protocols=(Choice("postgresql", "tables", ("postgres",)), Choice("sqlite", "a file")),
    destinations=(Choice("warehouse", "duckdb"),),
    destination="warehouse",
    timezone="UTC",
    defaults=lambda protocol: {"port": 5433} if protocol == "postgresql" else {},
    check_name=str,
    now=NOW,
)
REFUSED = SourceError("password authentication failed", hint="check `password`")


@dataclass
class Person:
    """Types these lines, one for each question, and is shown the rest; work is answered as it says."""

    lines: list[str]
    offer: Offer | SourceError = field(default_factory=lambda: Offer((), (ORDERS,)))
    tests: list[ConnectionStatus | SourceError] = field(default_factory=list)
    samples: Mapping[str, Sample] | SourceError = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    work: list[Step] = field(default_factory=list)

    def __call__(self, conversation: Conversation[T]) -> T:
        try:
            step = next(conversation)
            while True:
                step = conversation.send(self.answer(step))
        except StopIteration as end:
            assert self.lines == [], f"nobody asked for {self.lines}"
            result: T = end.value
            return result

    def answer(self, step: Step) -> object:
        match step:
            case Text():
                return self._text(step)
            case Pick():
                self.seen += [f"{choice.value}: {choice.detail}" for choice in step.choices]
                self.seen.append(step.note)
                found = read_pick(self._line(step.question), step)
                assert isinstance(found, Picked)
                return found.values
            case Confirm():
                return self._line(step.question) != "n"
            case Say(text) | ShowFile(_, text):
                self.seen.append(text)
            case ShowRows(columns, rows):
                self.seen.append(str([columns, *rows]))
            case _:
                return self._work(step)
        return None

    def _text(self, step: Text) -> str:
        while True:
            try:
                return step.check(self._line(step.question) or step.default)
            except ValueError as wrong:
                self.seen.append(str(wrong))

    def _line(self, question: str) -> str:
        assert self.lines, f"no answer to {question!r}"
        self.seen.append(question)
        return self.lines.pop(0)

    def _work(self, step: Step) -> object:
        self.work.append(step)
        match step:
            case LoadModel(protocol):
                return registry.load(protocol).connection
            case TryConnection():
                return self.tests.pop(0) if self.tests else ConnectionStatus("3 tables", "PostgreSQL 17")
            case FindStreams():
                return self.offer
            case SampleColumns():
                return self.samples
            case PreviewRows():
                return ShownRows("orders", ("id",), ((1,),))
            case _:
                raise AssertionError(step)

    @property
    def told(self) -> str:
        return "\n".join(self.seen)


def postgres(name: str = "shop") -> Kind:
    return Kind(name, "postgresql", registry.load("postgresql").connection)


def written(draft: Draft | None) -> dict[str, object]:
    assert draft is not None
    return dict(draft.values)


def test_from_the_name_to_the_definition() -> None:
    person = Person(["shop", "postgres"])
    kind = person(ask_kind(None, None, AROUND))
    assert (kind.name, kind.protocol) == ("shop", "postgresql")
    person = Person(
        ["db", "", "shop", "etl", "s3cret", "", "", "", "", "every day at 06:30", "Europe/Berlin", "y"],
        samples={"updated_at": Sample(1000, 0, 1000)},
    )
    draft = person(ask_all(kind, Given(), AROUND))
    assert written(draft) == {
        "protocol": "postgresql",
        "connection": {
            "host": "db", "database": "shop", "username": "etl", "password": "${secret:shop/password}",
        },
        "streams": [{"table": "public.orders", "cursor": "updated_at"}],
        "schedule": "30 6 * * *",
        "timezone": "Europe/Berlin",
    }  # fmt: skip
    assert draft is not None
    assert draft.secrets == {"shop/password": "s3cret"}
    assert "s3cret" not in person.told
    assert "Proposed: updated_at, because its name says that changes move it; indexed" in person.told
    assert "id: bigint: new rows have greater ones; indexed; never NULL; but changes to" in person.told
    assert "30 6 * * * means every day at 06:30 (Europe/Berlin); next: Tue 2026-03-03 06:30" in person.told
    assert "protocol: postgresql\nconnection:\n  host: db\n" in person.told
    assert "public.orders: about 12,000 rows" in person.told


def test_a_port_is_checked_and_a_setting_has_to_be_there() -> None:
    given = Given({"host": "db", "database": "d", "username": "u", "password": "${env:P}"})
    lines = ["99999", "", "sslmod=x", "sslmode", "sslmode=require", "tunnel.password=seen", "t0p", "?", ""]
    person = Person([*lines, "", "", "", "", ""])
    draft = person(ask_all(postgres(), given, AROUND))
    assert written(draft)["connection"] == {
        **given.connection, "sslmode": "require", "tunnel": {"password": "${secret:shop/tunnel/password}"},
    }  # fmt: skip
    assert draft is not None
    assert draft.secrets == {"shop/tunnel/password": "t0p"}
    assert "less than or equal to 65535" in person.told
    assert "did you mean sslmode?" in person.told
    assert "say its value as well: sslmode=..." in person.told
    assert "is a secret, and was seen" in person.told
    assert "statement_timeout" in person.told


@pytest.mark.parametrize(
    ("then", "enabled", "writes"),
    [("save", None, True), ("disabled", False, True), ("stop", None, False)],
)
def test_a_connection_that_fails(then: str, enabled: bool | None, writes: bool) -> None:
    given = Given({"host": "db", "port": 1, "database": "d", "username": "u"})
    rest = ["a, b", "", ""] if writes else []
    person = Person(["wrong", "", then, *rest], tests=[REFUSED])
    draft = person(ask_all(postgres(), given, AROUND))
    assert "password authentication failed\n  hint: check `password`" in person.told
    assert (draft is not None) is writes
    if draft is not None:
        assert draft.values["streams"] == [{"table": "a"}, {"table": "b"}]
        assert draft.values.get("enabled") is enabled


def test_a_connection_that_fails_is_corrected_with_what_was_said_as_defaults() -> None:
    given = Given({"host": "db", "port": 1, "database": "d", "username": "u"})
    again = ["", "5432", "", "", "${env:PGPASSWORD}", ""]
    person = Person(["wrong", "", "", *again, "", "", "", "", ""], tests=[REFUSED])
    draft = person(ask_all(postgres(), given, AROUND))
    assert written(draft)["connection"] == {
        "host": "db", "port": 5432, "database": "d", "username": "u", "password": "${env:PGPASSWORD}",
    }  # fmt: skip
    assert draft is not None
    assert draft.secrets == {}, "nothing is stored that nothing refers to"


def test_flags_are_not_asked_for() -> None:
    given = Given(
        {"host": "db", "port": 1, "database": "d", "username": "u", "password": "${env:P}"},
        others={"schedule": "@hourly", "description": "d", "enabled": False, "destination": "lake"},
        wanted=Wanted(("public.orders",), "id", ("id",), Disposition.APPEND),
    )
    person = Person(["", "y"])
    assert written(person(ask_all(postgres(), given, AROUND))) == {
        "protocol": "postgresql",
        "description": "d",
        "connection": dict(given.connection),
        "streams": [{"table": "public.orders", "cursor": "id", "disposition": "append"}],
        "destination": "lake",
        "schedule": "@hourly",
        "enabled": False,
    }


def test_a_table_without_a_key_is_asked_for_one() -> None:
    given = Given({"host": "db", "port": 1, "database": "d", "username": "u", "password": "${env:P}"})
    person = Person(["", "", "", "nr", "id", "append", "", ""], offer=Offer((), (LOGS,)))
    stream = {"table": "logs", "cursor": "updated_at", "primary_key": ["id"], "disposition": "append"}
    assert written(person(ask_all(postgres(), given, AROUND)))["streams"] == [stream]
    assert "a row that changed comes twice" in person.told
    assert "there is no column 'nr'" in person.told


def test_many_tables_are_one_list_of_proposals_of_which_any_can_be_changed() -> None:
    tables = tuple(replace(ORDERS, name=f"s{n}.t{n % 29}") for n in range(30))
    given = Given({"host": "db", "port": 1, "database": "d", "username": "u", "password": "${env:P}"})
    person = Person(["", "all", "s7.t", "none", "", "", ""], offer=Offer((), tables))
    streams = written(person(ask_all(postgres(), given, AROUND)))["streams"]
    assert isinstance(streams, list)
    assert len(streams) == 30
    assert streams[6:8] == [{"table": "s6.t6", "cursor": "updated_at"}, {"table": "s7.t7"}]
    names = [stream.get("name") for stream in streams]
    assert (names[0], names[29], names[1]) == ("s0_t0", "s29_t0", None), "two tables of one name"
    assert sum(isinstance(step, SampleColumns) for step in person.work) == MOST_SAMPLED
    assert "of the others, the catalog" in person.told


def test_a_protocol_that_knows_its_streams_is_left_to_them_unless_some_are_picked() -> None:
    own = (Stream("orders", table="orders", cursor="id"), Stream("a", path="a*.csv"))
    given = Given({"host": "db", "port": 1, "database": "d", "username": "u", "password": "${env:P}"})
    person = Person(["", "", "", ""], offer=Offer(own, ()))
    assert "streams" not in written(person(ask_all(postgres(), given, AROUND)))
    person = Person(["", "2", "", ""], offer=Offer(own, ()))
    assert written(person(ask_all(postgres(), given, AROUND)))["streams"] == [{"path": "a*.csv"}]


def test_what_cannot_be_sampled_or_discovered_is_still_asked_for() -> None:
    given = Given({"host": "db", "port": 1, "database": "d", "username": "u", "password": "${env:P}"})
    person = Person(["", "", "", "", "", ""], samples=REFUSED)
    assert written(person(ask_all(postgres(), given, AROUND)))["streams"] == [
        {"table": "public.orders", "cursor": "updated_at"}
    ]
    person = Person(["", "x", "", ""], offer=REFUSED)
    assert written(person(ask_all(postgres(), given, AROUND)))["streams"] == [{"table": "x"}]


def test_nothing_is_written_where_the_person_says_no() -> None:
    given = Given({"host": "db", "port": 1, "database": "d", "username": "u", "password": "${env:P}"})
    assert Person(["", "", "", "", "", "n"])(ask_all(postgres(), given, AROUND)) is None


def test_a_driver_that_is_not_installed_is_told_and_another_protocol_asked_for() -> None:
    class Without(Person):
        def _work(self, step: Step) -> object:
            if step == LoadModel("postgresql"):
                return MissingDriverError("needs psycopg", hint="pip install psycopg")
            return super()._work(step)

    person = Without(["sqlite"])
    assert person(ask_kind("shop", "postgresql", AROUND)).protocol == "sqlite"
    assert "pip install psycopg" in person.told


def test_a_wrong_answer_to_work_is_a_bug_and_no_silence() -> None:
    talking = ask_kind("shop", "sqlite", AROUND)
    next(talking)
    assert talking.send(None) == LoadModel("sqlite")
    with pytest.raises(TypeError):
        talking.send("nonsense")
