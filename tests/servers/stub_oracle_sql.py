"""Oracle's SQL as SQLite runs it, for the stand-in for its driver: the statements of Atlas, and no others."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, localcontext

NAME = r'"[^"]*"'
LITERAL = r"'(?:[^']|'')*'"
_PLACE = rf"{NAME}(?:\.{NAME})?"
_MERGE = re.compile(
    rf"MERGE INTO (?P<target>{_PLACE}) there USING (?P<source>\(.*\)|{NAME}) (?P<alias>given|staged) "
    r"ON \((?P<same>.*?)\) (?:WHEN MATCHED THEN UPDATE SET (?P<sets>.*) )?"
    r"WHEN NOT MATCHED THEN INSERT \((?P<names>.*)\) VALUES \((?P<cells>.*)\)",
    re.DOTALL,
)
_EXECUTED = re.compile(
    rf"BEGIN EXECUTE IMMEDIATE (?P<made>{LITERAL}); EXCEPTION WHEN OTHERS THEN "
    r"IF SQLCODE <> -955 THEN RAISE; END IF; END;"
)
_STAGE = re.compile(
    rf"CREATE PRIVATE TEMPORARY TABLE (?P<name>{NAME}) (?P<columns>\(.*\)) ON COMMIT PRESERVE DEFINITION",
    re.DOTALL,
)
_MODIFY = re.compile(rf"ALTER TABLE (?P<table>{_PLACE}) MODIFY \((?P<name>{NAME}) (?P<kind>.*)\)")
_ADD = re.compile(rf"ALTER TABLE (?P<table>{_PLACE}) ADD \((?P<column>{NAME} .*)\)", re.DOTALL)
_RENAME = re.compile(rf"ALTER TABLE {_PLACE} RENAME TO {NAME}")
_TOKENS = re.compile(rf"{NAME}|{LITERAL}|:(?P<number>\d+)")
_TYPES = re.compile(
    rf"{NAME}|{LITERAL}|\bNUMBER(?:\((?P<digits>\d+)(?:,(?P<scale>\d+))?\))?(?= |,|\)|$)"
    r"|\bTIMESTAMP\((?P<fraction>\d)\)(?P<zone> WITH TIME ZONE)?|(?P<unit> (?:BYTE|CHAR))\)"
)
# What SQLite, and no Oracle, would take.
_FOREIGN = re.compile(
    r"\bLIMIT\b|\bIF NOT EXISTS\b|\bON CONFLICT\b|\bTEMP TABLE\b|\bRELEASE\b|\) AS \w|`|\["
    r"|\bFROM \S+ AS \w|\bJOIN \S+ AS \w",
    re.IGNORECASE,
)
DML = ("INSERT ", "UPDATE ", "DELETE ", "MERGE ", "SAVEPOINT ", "ROLLBACK TO ")
DDL = ("CREATE TABLE ", "DROP TABLE ", "ALTER TABLE ", "BEGIN EXECUTE ")


class Refusal(Exception):
    """A statement that Oracle, or the stand-in, does not take: the server's number and its words."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number, self.text = number, text


def foreign(sql: str) -> None:
    """Raise Refusal where the statement is in another system's words."""
    if found := _FOREIGN.search(re.sub(rf"{NAME}|{LITERAL}", '""', sql)):
        raise Refusal(933, f"SQL command not properly ended near {found[0]}")


def selected(sql: str) -> tuple[str, bool]:
    """A SELECT as SQLite runs it, and whether its rows are locked."""
    locks = " FOR UPDATE WAIT 60"
    is_locked = sql.endswith(locks)
    sql = sql.removesuffix(locks)
    if is_locked and "FETCH FIRST" in sql:
        raise Refusal(2014, "cannot select FOR UPDATE from view with DISTINCT, GROUP BY, etc.")
    sql = re.sub(r" AND ROWNUM <= (\d+)$", r" LIMIT \1", sql)
    sql = re.sub(r" FETCH FIRST (\d+) ROWS ONLY$", r" LIMIT \1", sql)
    return numbered(sql), is_locked


def numbered(sql: str, value: str | None = None) -> str:
    """Bound parameters in SQLite's form, or this value in their place, for what only describes."""
    return _TOKENS.sub(
        lambda found: (value or f"?{found['number']}") if found["number"] else found[0],
        sql.replace(" FROM dual)", ")"),
    )


def changing(sql: str) -> Iterator[str]:
    """A statement that changes rows as those that SQLite runs."""
    found = _MERGE.fullmatch(sql)
    if found is None:
        yield numbered(sql)
        return
    target, source, alias, same = found["target"], found["source"], found["alias"], found["same"]
    if found["sets"]:
        sets = re.sub(r"\bthere\.", "", found["sets"]).replace("= DEFAULT", "= NULL")
        yield numbered(f"UPDATE {target} AS there SET {sets} FROM {source} AS {alias} WHERE {same}")
    yield numbered(
        f"INSERT INTO {target} ({found['names']}) SELECT {found['cells']} FROM {source} AS {alias} "
        f"WHERE NOT EXISTS (SELECT 1 FROM {target} AS there WHERE {same})"
    )


def declared(sql: str) -> str:
    """Types as SQLite keeps them: digits that no integer of 64 bits has are texts."""

    def kind(found: re.Match[str]) -> str:
        if found["unit"]:
            return ")"
        if found["fraction"]:
            return f"TIMESTAMP{'TZ' if found['zone'] else ''}({found['fraction']})"
        if found[0].startswith(('"', "'")) or not found["digits"]:
            return found[0]
        digits, scale = int(found["digits"]), int(found["scale"] or 0)
        return f"NUMBER{'' if digits <= 19 and not scale else 'TEXT'}({digits},{scale})"

    return _TYPES.sub(kind, sql)


def defining(sql: str, made: Callable[[str], str]) -> tuple[Sequence[str], bool]:
    """DDL as SQLite runs it, and whether a table that is there already is no failure.

    `made` gives the statement by which a table was made.
    """
    if found := _EXECUTED.fullmatch(sql):
        return (declared(found["made"][1:-1].replace("''", "'")),), True
    if found := _ADD.fullmatch(sql):
        return (f"ALTER TABLE {found['table']} ADD COLUMN {declared(found['column'])}",), False
    if found := _MODIFY.fullmatch(sql):
        return _modified(found["table"], found["name"], declared(found["kind"]), made), False
    if sql.startswith("CREATE TABLE ") or _RENAME.fullmatch(sql):
        return (declared(sql),), False
    if found := re.fullmatch(rf"DROP TABLE (?P<table>{_PLACE}|\S+)(?: PURGE)?", sql):
        return (f"DROP TABLE {found['table']}",), False
    raise Refusal(900, "invalid SQL statement, as far as the stand-in knows")


def _modified(table: str, name: str, kind: str, made: Callable[[str], str]) -> Sequence[str]:
    schema, _, plain = table.rpartition(".")
    before = made(plain[1:-1])
    after = re.sub(rf"^CREATE TABLE .*?\((?={NAME})", f'CREATE TABLE {schema}."made anew" (', before, count=1)
    after, changed = re.subn(
        rf"{re.escape(name)} \w+(?:\([\d,]+\))?", lambda _: f"{name} {kind}", after, count=1
    )
    if not changed:
        raise Refusal(904, f"{name}: invalid identifier")
    return (
        after,
        f'INSERT INTO {schema}."made anew" SELECT * FROM {table}',
        f"DROP TABLE {table}",
        f'ALTER TABLE {schema}."made anew" RENAME TO {plain}',
    )


def staged(sql: str) -> str | None:
    """A private temporary table as SQLite makes one."""
    found = _STAGE.fullmatch(sql)
    if found is None:
        return None
    if not found["name"].startswith('"ORA$PTT_'):
        raise Refusal(32463, "cannot create an object with a name matching private temporary table prefix")
    return f"CREATE TEMP TABLE {found['name']} {declared(found['columns'])}"


def bound(value: object) -> object:
    """A parameter as SQLite keeps it: an empty text is NULL, and there is no minus zero."""
    if value in ("", b""):
        return None
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else repr(value)
    return value


def to_number(text: object) -> object:
    if text is None:
        return None
    with localcontext(prec=80):
        found = Decimal(str(text))
        if found == found.to_integral_value() and abs(found) < 2**63:
            return int(found)
        return format(found.normalize(), "f")


def to_char(value: object, pattern: str | None = None) -> object:
    """A time that SQLite has as ISO text, in a format of Atlas."""
    if value is None or pattern is None:
        return value
    whole, _, fraction = str(value).replace(" ", "T").partition(".")
    digits = int(pattern[-1]) if ".FF" in pattern else 0
    return (
        (" " if pattern.startswith("S") else "")
        + whole
        + (f".{fraction:0<{digits}.{digits}}" if digits else "")
    )


def to_timestamp(text: str | None, _: str) -> str | None:
    """A time as SQLite has it here."""
    if text is None:
        return None
    whole, _, fraction = text.replace("T", " ").partition(".")
    return f"{whole}.{fraction[:6]:0<6}{fraction[6:].rstrip('0')}"


def add_functions(client: sqlite3.Connection) -> None:
    """The functions of Oracle that Atlas calls."""
    for name, count, function in (
        ("TO_CHAR", -1, to_char),
        ("TO_TIMESTAMP", 2, to_timestamp),
        ("TO_DATE", 2, lambda text, _: text.replace("T", " ")),
        ("TO_NUMBER", 1, to_number),
        ("FROM_TZ", 2, lambda moment, _: moment),
        ("SYS_EXTRACT_UTC", 1, lambda moment: moment),
        ("HEXTORAW", 1, bytes.fromhex),
    ):
        client.create_function(name, count, function)


def refusal(failure: sqlite3.Error) -> Refusal:
    """What the server would say, by number."""
    text = str(failure)
    for part, number, says in _SAYS:
        if part in text:
            return Refusal(number, says.format(text.rpartition(".")[2]))
    return Refusal(900, text)


_SAYS: Sequence[tuple[str, int, str]] = (
    ("UNIQUE constraint", 1, "unique constraint (ETL.SYS_C007) violated"),
    ("NOT NULL constraint", 1400, 'cannot insert NULL into ("ETL"."T"."{}")'),
    ("CHECK constraint", 2290, "check constraint (ETL.SYS_C008) violated"),
    ("already exists", 955, "name is already used by an existing object"),
    ("there is already another table", 955, "name is already used by an existing object"),
    ("no such table", 942, "table or view does not exist"),
    ("unknown database", 942, "table or view does not exist"),
    ("no such column", 904, "invalid identifier"),
    ("duplicate column", 957, "duplicate column name"),
    ("locked", 30006, "resource busy; acquire with WAIT timeout expired"),
    ("interrupted", 1013, "user requested cancel of current operation"),
)
CHARACTER_SETS: Mapping[bool, str] = {False: "AL32UTF8", True: "WE8ISO8859P15"}
