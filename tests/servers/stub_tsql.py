"""T-SQL as SQLite runs it, for the stand-in for SQL Server: the statements of Atlas, and no others.

What is not known here is refused, or is a syntax error of SQLite's: nothing is guessed.
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext

from tests.servers.stub_tds import Refused

LONE = "half of a pair"  # what stands for a surrogate alone, which SQLite cannot hold
LITERAL = r"N?'(?:[^']|'')*'"
NAME = r"\[(?:[^\]]|\]\])*\]"
STATEMENTS = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|CREATE TABLE|DROP TABLE|ALTER TABLE)\b")
# What SQLite, and no SQL Server, would take.
_FOREIGN = re.compile(
    r"\bLIMIT\b|\bIF NOT EXISTS\b|\bON CONFLICT\b|\|\||\bTEMP(ORARY)? |\bADD COLUMN\b|`|\"", re.I
)
_TOKENS = re.compile(
    rf"{LITERAL}|{NAME}|\b(?P<call>CAST|CONVERT|OBJECT_ID|SCHEMA_ID|OPENJSON)\("
    r"|(?P<plain> WITH \(UPDLOCK, HOLDLOCK\)|\(max\)|\bdecimal\(|\bCOUNT_BIG\(| NONCLUSTERED|= DEFAULT"
    r"| OPTION \(RECOMPILE\))"
)
_PLAIN = {
    "(max)": "(-1)", "decimal(": "decimaltext(", "COUNT_BIG(": "count(", "= DEFAULT": "= NULL",
}  # fmt: skip  # no column of the stand-in has a default
_UPDATE_FROM = re.compile(
    rf"UPDATE there SET (?P<sets>.*) FROM (?P<target>{NAME}\.{NAME}) AS there WITH \(UPDLOCK, HOLDLOCK\) "
    rf"INNER JOIN (?P<stage>{NAME}) AS staged ON (?P<same>.*)",
    re.DOTALL,
)
_GIVEN = re.compile(r"(\w+) nvarchar\((max|\d+)\) ('[^']*')")

Find = Callable[[str], int | None]  # the number of a table, or of a schema, by its name


def translated(sql: str, table: Find, schema: Find) -> str:
    """T-SQL as SQLite runs it: CAST and CONVERT become calls, TOP becomes LIMIT."""
    limit = ""
    if found := _FOREIGN.search(re.sub(rf"{LITERAL}|{NAME}", "", sql)):
        raise Refused(102, f"Incorrect syntax near {found[0]}.")
    if found := re.match(r"\s*SELECT TOP \((\d+)\) ", sql):
        sql, limit = "SELECT " + sql[found.end() :], f" LIMIT {found[1]}"
    if found := _UPDATE_FROM.fullmatch(sql):
        sql = (
            f"UPDATE {found['target']} AS there SET {found['sets']} FROM {found['stage']} AS staged "
            f"WHERE {found['same']}"
        )
    if re.match(r"\s*CREATE TABLE \[#", sql):
        sql = sql.replace("CREATE TABLE", "CREATE TEMP TABLE", 1)
    return _Translation(table, schema).of(sql) + limit


class _Translation:
    def __init__(self, table: Find, schema: Find) -> None:
        self._numbers: Mapping[str, Find] = {"OBJECT_ID": table, "SCHEMA_ID": schema}

    def of(self, sql: str) -> str:
        written, place = "", 0
        while found := _TOKENS.search(sql, place):
            written += sql[place : found.start()]
            place = found.end()
            call = found["call"]
            if call is None:
                written += _plain(found[0])
                continue
            end = _closing(sql, place)
            inside, place = sql[place:end], end + 1
            if call in self._numbers:
                number = self._numbers[call](text_of(arguments(inside)[0]))
                written += "NULL" if number is None else str(number)
            elif call == "OPENJSON":
                shape = re.compile(r" WITH \(").match(sql, place)
                if shape is None:
                    raise Refused(102, "Incorrect syntax near OPENJSON.")
                end = _closing(sql, shape.end())
                written += _rows(self.of(inside), sql[shape.end() : end])
                place = end + 1
            elif call == "CAST":
                value, _, kind = inside.rpartition(" AS ")
                written += f"ms_cast({self.of(value)}, '{kind}', 0)"
            else:
                kind, value, *style = arguments(inside)
                written += f"ms_cast({self.of(value)}, '{kind.strip()}', {style[0] if style else 0})"
        return written + sql[place:]


def _plain(token: str) -> str:
    if token.startswith("["):
        return quoted(name_of(token))
    if token.endswith("'"):
        return token.removeprefix("N")
    return _PLAIN.get(token, "")


def _rows(json: str, shape: str) -> str:
    """OPENJSON over arrays: a text that is longer than its type is NULL."""
    columns = []
    for part in arguments(shape):
        found = _GIVEN.fullmatch(part.strip())
        if found is None:
            raise Refused(102, f"Incorrect syntax near {part}.")
        name, size, path = found.groups()
        cell = f"json_extract(value, {path})"
        fits = cell if size == "max" else f"CASE WHEN length({cell}) <= {size} THEN {cell} END"
        columns.append(f"{fits} AS {name}")
    return f"(SELECT {', '.join(columns)} FROM json_each({json}))"


def _closing(sql: str, place: int) -> int:
    depth = 1
    for found in re.compile(rf"{LITERAL}|{NAME}|[()]").finditer(sql, place):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.start()
    raise Refused(102, "Incorrect syntax near ')'.")


def arguments(inside: str) -> list[str]:
    """What stands between commas, outside of parentheses."""
    found, depth, last = [], 0, 0
    for match in re.finditer(rf"{LITERAL}|{NAME}|[(),]", inside):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if match[0] == "," and not depth:
            found.append(inside[last : match.start()])
            last = match.end()
    return [*found, inside[last:]]


def text_of(literal: str) -> str:
    return literal.strip().removeprefix("N")[1:-1].replace("''", "'")


def name_of(token: str) -> str:
    return token[1:-1].replace("]]", "]")


def quoted(name: object) -> str:
    return '"' + str(name).replace('"', '""') + '"'


def ms_cast(value: object, kind: str, style: int) -> object:
    """A value in another type, as far as Atlas asks for it."""
    if value is None:
        return None
    base, _, size = kind.rstrip(")").partition("(")
    if base in ("binary", "varbinary"):
        return _bytes(value, size, style)
    if base in ("varchar", "nvarchar", "char", "nchar"):
        if isinstance(value, bytes):
            return value.hex().upper() if style == 2 else value.decode("utf-16-le")
        text = format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)
        return text.replace(" ", "T") if style == 126 else text
    if base in ("bigint", "int", "smallint", "tinyint"):
        return int(str(value))
    if base == "bit":
        return int(str(value).lower() in ("1", "true"))
    if base in ("decimal", "numeric"):
        with localcontext(prec=80):
            return str(Decimal(str(value)).quantize(Decimal(1).scaleb(-int(size.partition(",")[2] or 0))))
    if base == "real":
        return struct.unpack("<f", struct.pack("<f", float(str(value))))[0]
    if base in ("money", "float"):
        return float(str(value))
    if base.startswith("datetime"):
        whole, _, fraction = str(value).replace("T", " ").removesuffix("Z").partition(".")
        return f"{whole}.{fraction[:7]:0<6}"
    if base == "uniqueidentifier":
        return str(value).upper()
    if base in ("date", "time"):
        return value
    raise Refused(243, f"Type {kind} is not a defined system type.")


def _bytes(value: object, size: str, style: int) -> object:
    if isinstance(value, str):
        if style == 2:
            return bytes.fromhex(value)
        return value.replace(LONE, "\ud83d").encode("utf-16-le", "surrogatepass")
    if isinstance(value, float):
        return struct.pack(">f" if size == "4" else ">d", value)
    return value


def _length(value: object) -> int | None:
    if value is None:
        return None
    return (
        len(value.encode("utf-16-le"))
        if isinstance(value, str)
        else len(value)
        if isinstance(value, bytes)
        else 8
    )


def add_functions(client: sqlite3.Connection) -> None:
    """The functions of T-SQL that Atlas calls."""
    client.create_function("ms_cast", 3, ms_cast, deterministic=True)
    client.create_function("DATALENGTH", 1, _length)
    client.create_function(
        "CONCAT", -1, lambda *texts: "".join(str(each) for each in texts if each is not None)
    )
    client.create_function("SWITCHOFFSET", 2, lambda moment, _: moment)  # every instant here is in UTC


def compared(one: str, other: str) -> int:
    """As all collations compare: blanks at the end are ignored."""
    one, other = one.rstrip(" "), other.rstrip(" ")
    return (one > other) - (one < other)


def refusal(failure: sqlite3.Error) -> Refused:
    """What the server would say, by number."""
    text = str(failure)
    for part, number, says in _SAYS:
        if part in text:
            return Refused(number, says.format(text.rpartition(".")[2]))
    return Refused(102, text)


_SAYS: Sequence[tuple[str, int, str]] = (
    (
        "UNIQUE constraint",
        2627,
        "Violation of PRIMARY KEY constraint 'PK'. The duplicate key value is (secret).",
    ),
    ("NOT NULL constraint", 515, "Cannot insert the value NULL into column '{}', table 't'; INSERT fails."),
    ("CHECK constraint", 547, 'The INSERT statement conflicted with the CHECK constraint "CK".'),
    ("already exists", 2714, "There is already an object of that name in the database."),
    ("no such table", 208, "Invalid object name."),
    ("unknown database", 2760, "The specified schema name either does not exist."),
    ("no such column", 207, "Invalid column name."),
    ("locked", 1222, "Lock request time out period exceeded."),
    ("raised exception", 8114, "Error converting data type nvarchar to another."),
)
