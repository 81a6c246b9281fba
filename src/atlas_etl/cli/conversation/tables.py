"""What is read: tables are picked; each gets a key, a cursor and a disposition proposed, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.api.cursor_advice import Moves, Proposal, Sample, judged_columns, propose
from atlas_etl.api.draft import Draft, Offer
from atlas_etl.cli.conversation.picking import Narrowed, read_pick
from atlas_etl.cli.conversation.steps import (
    Choice,
    Conversation,
    Pick,
    SampleColumns,
    Say,
    ShowRows,
    Text,
    answer,
    picked,
    say,
)
from atlas_etl.cli.render import safe
from atlas_etl.config.yaml_source import Value
from atlas_etl.model import Disposition, Stream, StreamInfo

MOST_SAMPLED = 20
"""So many tables are sampled at most; for others the catalog alone decides."""

_IN_DETAIL = 3
_NONE = "(none)"  # as no column is called
_DISPOSITIONS: Mapping[Disposition, str] = {
    Disposition.MERGE: "by the key: a row that changed takes its old form's place",
    Disposition.APPEND: "rows are only added: a row that changed stands beside its old form",
    Disposition.REPLACE: "everything is read each time and takes the old copy's place",
}


class Wanted(Struct, frozen=True):
    """What flags say of the streams; None and empty: nothing."""

    tables: tuple[str, ...] = ()
    cursor: str | None = None
    primary_key: tuple[str, ...] = ()
    disposition: Disposition | None = None


class _Table(Struct, frozen=True):
    """One table, and how it is to be copied."""

    info: StreamInfo
    proposal: Proposal
    cursor: str | None
    key: tuple[str, ...]
    disposition: Disposition | None = None  # None: the one that cursor and key allow

    @property
    def effective(self) -> Disposition:
        if self.disposition is not None:
            return self.disposition
        if self.cursor is None:
            return Disposition.REPLACE
        return Disposition.MERGE if self.key else Disposition.APPEND

    @property
    def reason(self) -> str:
        return self.proposal.reason if self.cursor == self.proposal.cursor else "as you said"


def ask_streams(draft: Draft, offer: Offer, wanted: Wanted) -> Conversation[list[Value]]:
    """The streams of the definition; empty where it should read what its protocol offers by itself."""
    if offer.own:
        return (yield from _ask_own(offer.own, wanted))
    if not offer.tables:
        yield from say("There is nothing to read here that this login may see.")
        return (yield from ask_unseen(wanted))
    picked_tables = yield from _pick(offer.tables, wanted)
    tables: list[_Table] = []
    for number, info in enumerate(picked_tables):
        columns = judged_columns(info)
        samples: Mapping[str, Sample] = {}
        if columns and number < MOST_SAMPLED:
            found = yield SampleColumns(draft, info, columns)
            samples = found if isinstance(found, Mapping) else {}
        tables.append(_proposed(info, propose(info, samples), wanted))
    if len(picked_tables) > MOST_SAMPLED:
        yield from say(f"Rows of the first {MOST_SAMPLED} tables were looked at; of the others, the catalog.")
    return _streams((yield from _review(tables, wanted)))


def ask_unseen(wanted: Wanted) -> Conversation[list[Value]]:
    """The streams where the source could not be asked."""
    tables: Sequence[str] = wanted.tables
    if not tables:
        typed = yield from answer(Text("tables to read, with commas between them (Enter for none yet)"), str)
        tables = [table.strip() for table in typed.split(",") if table.strip()]
    return [
        _stream(table, cursor=wanted.cursor, key=wanted.primary_key, disposition=wanted.disposition)
        for table in tables
    ]


def _ask_own(own: Sequence[Stream], wanted: Wanted) -> Conversation[list[Value]]:
    if wanted.tables:
        return (yield from ask_unseen(wanted))
    choices = tuple(
        Choice(stream.name, f"new and changed rows, by {stream.cursor}" if stream.cursor else "all of it")
        for stream in own
    )
    names = yield from answer(Pick("streams", choices, default="all", many=True), tuple)
    if len(names) == len(own):
        return []
    return [
        {"path": stream.path} if stream.path is not None else {"table": stream.table or stream.name}
        for stream in own
        if stream.name in names
    ]


def _pick(found: Sequence[StreamInfo], wanted: Wanted) -> Conversation[list[StreamInfo]]:
    by_name = {info.name: info for info in found}
    choices = tuple(Choice(info.name, _rows(info)) for info in found)
    typed = ",".join(wanted.tables)
    known = [by_name[table] for table in wanted.tables if table in by_name]
    if typed and len(known) == len(wanted.tables):
        return known
    missing = [table for table in wanted.tables if table not in by_name]
    if missing:
        yield from say(f"There is no table {safe(', '.join(missing))} that this login may see.")
    names = yield from answer(
        Pick("tables", choices, default=found[0].name if len(found) == 1 else "", many=True), tuple
    )
    return [by_name[name] for name in names]


def _rows(info: StreamInfo) -> str:
    return f"about {info.estimated_rows:,} rows" if info.estimated_rows is not None else ""


def _proposed(info: StreamInfo, proposal: Proposal, wanted: Wanted) -> _Table:
    key = wanted.primary_key or info.primary_key
    cursor = wanted.cursor or proposal.cursor
    if wanted.disposition is Disposition.REPLACE and wanted.cursor is None:
        cursor = None
    return _Table(info, proposal, cursor, key, wanted.disposition)


def _review(tables: list[_Table], wanted: Wanted) -> Conversation[list[_Table]]:
    """Each of a few tables in detail; many as one list, of which any can be changed."""
    if len(tables) <= _IN_DETAIL:
        reviewed: list[_Table] = []
        for table in tables:
            reviewed.append((yield from _ask_table(table, wanted)))
        return reviewed
    while True:
        rows = [
            (t.info.name, ", ".join(t.key), t.cursor or _NONE, str(t.effective), t.reason) for t in tables
        ]
        yield ShowRows(("table", "key", "cursor", "disposition", "why this cursor"), rows)
        name = yield from answer(Text("a table to change (Enter: they are right)", check=_among(tables)), str)
        if not name:
            return tables
        for at, table in enumerate(tables):
            if table.info.name == name:
                tables[at] = yield from _ask_table(table, Wanted())


def _among(tables: Sequence[_Table]) -> Callable[[str], str]:
    question = Pick("", tuple(Choice(table.info.name) for table in tables))

    def check(typed: str) -> str:
        if not typed:
            return typed
        found = read_pick(typed, question)
        if isinstance(found, Narrowed):
            raise ValueError(f"{typed!r} is in the names of {len(found.positions)} tables; say more of it")
        return found.values[0]

    return check


def _ask_table(table: _Table, wanted: Wanted) -> Conversation[_Table]:
    info = table.info
    named = [column.name for column in info.columns]
    columns = "1 column" if len(named) == 1 else f"{len(named)} columns"
    yield Say(f"\n{safe(info.name)}: {_rows(info) or 'size unknown'}, {columns}")
    if info.primary_key and not wanted.primary_key:
        yield Say(f"key: {safe(', '.join(info.primary_key))}, the table's own primary key")
    if wanted.cursor is None:
        table = yield from _ask_cursor(table)
    if not table.key and table.cursor is not None:
        table = yield from _ask_key(table, named)
    if wanted.disposition is None and table.cursor is not None:
        table = yield from _ask_disposition(table)
    return table


def _ask_cursor(table: _Table) -> Conversation[_Table]:
    advised = table.proposal.columns
    choices = [
        Choice(each.column, f"{each.type}: {_sides(each.strengths, each.weaknesses)}") for each in advised
    ]
    choices.append(Choice(_NONE, "every sync reads the whole table and replaces the copy"))
    proposed = table.proposal.cursor or _NONE
    why = f"Proposed: {proposed}, because {table.proposal.reason}"
    best = next((each for each in advised if each.column == proposed), None)
    if best is not None and best.weaknesses:
        why += f". But: {'; '.join(best.weaknesses)}"
    name = yield from picked(
        Pick("cursor, the column that grows", tuple(choices), proposed, note=safe(f"{why}."))
    )
    return replace(table, cursor=None if name == _NONE else name)


def _sides(strengths: Sequence[str], weaknesses: Sequence[str]) -> str:
    against = "; ".join(weaknesses)
    return "; ".join(filter(None, (*strengths, f"but {against}" if strengths and against else against)))


def _ask_key(table: _Table, named: Sequence[str]) -> Conversation[_Table]:
    seen = {each.column: each for each in table.proposal.columns}
    cursor = seen.get(table.cursor or "")
    if cursor is not None and cursor.moves is Moves.CHANGES:
        yield Say("The table has no primary key: without one, a row that changed comes twice.")

    def check(typed: str) -> str:
        for column in _columns(typed):
            if column not in named:
                raise ValueError(f"there is no column {column!r}; there are {', '.join(named)}")
        return typed

    question = "key, the columns that tell rows apart, with commas (Enter for none)"
    typed = yield from answer(Text(question, check=check), str)
    return replace(table, key=tuple(_columns(typed)))


def _columns(typed: str) -> list[str]:
    return [column.strip() for column in typed.split(",") if column.strip()]


def _ask_disposition(table: _Table) -> Conversation[_Table]:
    allowed = [each for each in _DISPOSITIONS if each is not Disposition.MERGE or table.key]
    usual = replace(table, disposition=None).effective
    choices = tuple(Choice(str(each), _DISPOSITIONS[each]) for each in allowed)
    name = yield from picked(Pick("disposition, how rows meet what is there", choices, str(usual)))
    return replace(table, disposition=None if name == usual else Disposition(name))


def _streams(tables: Sequence[_Table]) -> list[Value]:
    names = [_last_part(table.info.name) for table in tables]
    streams: list[Value] = []
    for table, name in zip(tables, names, strict=True):
        key = () if table.key == table.info.primary_key else table.key
        stream = _stream(table.info.name, cursor=table.cursor, key=key, disposition=table.disposition)
        if names.count(name) > 1 and name != table.info.name:  # another schema has such a table too
            stream = {"name": table.info.name.replace(".", "_").replace('"', ""), **stream}
        streams.append(stream)
    return streams


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _stream(
    table: str, *, cursor: str | None, key: Sequence[str], disposition: Disposition | None
) -> dict[str, Value]:
    stream: dict[str, Value] = {"table": table}
    if cursor is not None:
        stream["cursor"] = cursor
    if key:
        stream["primary_key"] = [*key]
    if disposition is not None:
        stream["disposition"] = str(disposition)
    return stream
