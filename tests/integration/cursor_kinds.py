"""Cursors of every kind: how each is declared, and its values in the order of their own system.

A kind's values come in groups, the least first; those of one group are ties, though not always spelled alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.table_systems import DUCKDB, MYSQL, PARQUET, POSTGRESQL, SQLITE


@dataclass(frozen=True, slots=True)
class CursorKind:
    system: str
    sql: str
    groups: tuple[tuple[str, ...], ...]  # literals
    before: tuple[str, ...] = ()  # statements that make the type
    timezone: str | None = None
    is_wide: bool = False  # of more digits than DuckDB has, where it is text and no cursor of an append

    def __str__(self) -> str:
        return f"{self.system} {self.sql}"


def quoted(*groups: str) -> tuple[tuple[str, ...], ...]:
    """Groups of texts, the ties of each parted by a bar."""
    return tuple(tuple(f"'{text}'" for text in group.split("|")) for group in groups)


def plain(*groups: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group.split("|")) for group in groups)


_UUIDS = (
    "00000000-0000-4000-8000-000000000000", "7fffffff-ffff-4fff-8fff-ffffffffffff",
    "80000000-0000-4000-8000-000000000000", "ffffffff-ffff-4fff-8fff-ffffffffffff",
)  # fmt: skip
_NINES, _LONG = "9" * 28, "1234567890123456789012345678"

POSTGRES_KINDS = (
    CursorKind(POSTGRESQL, "bigint", plain("-9223372036854775808", "-1", "9007199254740993")),
    CursorKind(POSTGRESQL, "numeric", plain("-10", "-9.5", "9|9.0|9.00", "9.75", "10", "100.1", "1e30")),
    CursorKind(POSTGRESQL, "numeric(38,10)", plain("-0.0000000001", "0", f"{_LONG}.0000000001",
                                                   f"{_LONG}.0000000002", f"{_NINES}.9999999999")),
    CursorKind(POSTGRESQL, "numeric(60,5)", plain(f"-{'9' * 55}", "-1", f"{'9' * 55}.00001"), is_wide=True),
    CursorKind(POSTGRESQL, "real", plain("-0.1", "0.1", "0.2|0.200000003", "16777216")),
    CursorKind(POSTGRESQL, "double precision", plain("'-Infinity'", "-1e-300", "0.1", "0.30000000000000004",
                                                     "1e300")),
    CursorKind(POSTGRESQL, "date", quoted("0001-01-01", "1969-12-31", "2024-02-29")),
    CursorKind(POSTGRESQL, "timestamp", quoted("1969-12-31 23:59:59.999999", "2024-02-29 12:00:00.000001",
                                               "2024-02-29 12:00:00.000002")),
    CursorKind(POSTGRESQL, "timestamptz", quoted("1969-12-31 23:59:59.999999Z",
                                                 "2024-02-29 12:00:00.000001Z|2024-02-29 14:00:00.000001+02",
                                                 "2024-02-29 12:00:00.000002Z")),
    CursorKind(POSTGRESQL, "timestamp(0)", quoted("2024-02-29 12:00:00.4|2024-02-29 12:00:00",
                                                  "2024-02-29 12:00:00.6|2024-02-29 12:00:01")),
    CursorKind(POSTGRESQL, "timestamp without time zone", timezone="Europe/Berlin",
               groups=quoted("2024-03-31 01:59:59.999999", "2024-03-31 03:00", "2024-10-27 01:59",
                             "2024-10-27 03:00")),
    CursorKind(POSTGRESQL, "uuid", quoted(*_UUIDS)),
    # Capitals come after small letters here, letters before all others there, and accents count last.
    CursorKind(POSTGRESQL, 'text COLLATE "und-x-icu"', quoted("_", "1", "a", "A", "ä", "b", "B", "z", "Z")),
    CursorKind(POSTGRESQL, 'text COLLATE "C"', quoted("1", "A", "Z", "_", "a", "z", "ä", "€", "😀")),
    CursorKind(POSTGRESQL, 'varchar(9) COLLATE "C.utf8"', quoted("1", "A", "Z", "_", "a", "z", "ä", "😀")),
    CursorKind(POSTGRESQL, "text COLLATE folded", quoted("a|A", "B|b", "c", "Ö|ö", "z|Z"),
               before=("CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', "
                       "deterministic = false)",)),
    CursorKind(POSTGRESQL, "char(3)", quoted("A", "b", "b!", "é")),
    CursorKind(POSTGRESQL, "citext", quoted("a|A", "B|b", "c|C"), before=("CREATE EXTENSION citext",)),
    CursorKind(POSTGRESQL, "mood", quoted("sad", "ok", "happy"),
               before=("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",)),
)  # fmt: skip

MYSQL_KINDS = (
    CursorKind(MYSQL, "BIGINT UNSIGNED", plain("0", "9223372036854775807", "9223372036854775808",
                                               "18446744073709551614", "18446744073709551615")),
    CursorKind(MYSQL, "DECIMAL(38,10)", plain("-0.0000000001", "0", f"{_LONG}.0000000001",
                                              f"{_LONG}.0000000002", f"{_NINES}.9999999999")),
    CursorKind(MYSQL, "FLOAT", plain("-0.1", "0.1", "0.2", "16777216")),
    CursorKind(MYSQL, "DOUBLE", plain("-1e300", "-1e-300", "0.1", "0.30000000000000004", "1e300")),
    CursorKind(MYSQL, "DATE", quoted("1000-01-01", "1969-12-31", "2024-02-29")),
    CursorKind(MYSQL, "DATETIME", quoted("1969-12-31 23:59:59.4|1969-12-31 23:59:59",
                                         "1969-12-31 23:59:59.5|1970-01-01 00:00:00",
                                         "2024-02-29 12:00:00")),
    CursorKind(MYSQL, "DATETIME(6)", quoted("1000-01-01 00:00:00.000001", "2024-02-29 12:00:00.000001",
                                            "2024-02-29 12:00:00.000002")),
    CursorKind(MYSQL, "TIMESTAMP(3) NULL", quoted("1970-01-01 00:00:01.001", "2024-02-29 12:00:00.001",
                                                  "2024-02-29 12:00:00.0015|2024-02-29 12:00:00.002")),
    CursorKind(MYSQL, "UUID", quoted(_UUIDS[0], _UUIDS[2], _UUIDS[1], _UUIDS[3])),  # by their last digits
    CursorKind(MYSQL, "VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
               quoted("1", "A|a|ä|A ", "b|B", "ß|s", "z|Z", "_")),
    CursorKind(MYSQL, "VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci",
               quoted("_", "1", "a|A|ä", "B|b", "ss|ß|SS", "z|Z")),
    CursorKind(MYSQL, "VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
               quoted("1", "A", "B", "_", "a|a ", "ä", "😀")),
    CursorKind(MYSQL, "ENUM('sad','ok','happy') CHARACTER SET utf8mb4", quoted("happy", "ok", "sad")),
)  # fmt: skip

SQLITE_KINDS = (
    CursorKind(SQLITE, "INTEGER", plain("-9223372036854775808", "-1", "9007199254740993")),
    CursorKind(SQLITE, "DECIMAL(12,2)", plain("-10.5", "-9.25", "9", "9.75", "10|10.00", "100.1")),
    CursorKind(SQLITE, "DECIMAL(20,2)", plain("-10.5", "9", "10.25", "90071992547409.92")),
    CursorKind(SQLITE, "NUMERIC", plain("-1e300", "-0.5", "0.1", "0.30000000000000004", "1e300")),
    CursorKind(SQLITE, "REAL", plain("-1e300", "-0.5", "0.1", "0.30000000000000004", "9|9.0", "1e300")),
    CursorKind(SQLITE, "DATE", quoted("0001-01-01", "1969-12-31|1969-12-31 00:00:00", "2024-02-29")),
    CursorKind(SQLITE, "TIMESTAMP", quoted("1969-12-31 23:59:59.999999",
                                           "2024-02-29 12:00:00|2024-02-29T12:00:00.0|2024-02-29 12:00",
                                           "2024-02-29 12:00:00.000001")),
    CursorKind(SQLITE, "TIMESTAMP WITH TIME ZONE", quoted("2024-02-29 12:00Z|2024-02-29 14:00:00+02:00",
                                                          "2024-02-29 12:00:00.5Z|2024-02-29 01:30:00.5-1030",
                                                          "2024-02-29 12:00:01Z")),
    CursorKind(SQLITE, "TIMESTAMP(9)", quoted("2024-02-29 12:00:00.000000001",
                                              "2024-02-29 12:00:00.000000002",
                                              "2024-02-29 12:00:00.1|2024-02-29 12:00:00.100000000")),
    CursorKind(SQLITE, "UUID", quoted(*_UUIDS[:3], f"{_UUIDS[3]}|{_UUIDS[3].upper()}")),
    CursorKind(SQLITE, "TEXT", quoted("1", "A", "Z", "_", "a", "z", "ä", "😀")),
    CursorKind(SQLITE, "TEXT COLLATE NOCASE", quoted("1", "_", "a|A", "B|b", "z|Z", "ä")),
    CursorKind(SQLITE, "TEXT COLLATE RTRIM", quoted("1", "A", "a|a ", "ä")),
)  # fmt: skip

DUCKDB_KINDS = (
    CursorKind(DUCKDB, "UBIGINT", plain("0", "9223372036854775808", "18446744073709551615")),
    CursorKind(DUCKDB, "HUGEINT", plain("-170141183460469231731687303715884105727", "-9", "9", "10")),
    CursorKind(DUCKDB, "DECIMAL(38,10)", plain("-0.0000000001", f"{_LONG}.0000000001",
                                               f"{_NINES}.9999999999")),
    CursorKind(DUCKDB, "DOUBLE", plain("'-inf'", "-1e-300", "0.1", "0.30000000000000004")),
    CursorKind(DUCKDB, "TIMESTAMP_NS", quoted("1969-12-31 23:59:59.999999999",
                                              "2024-02-29 12:00:00.000000001",
                                              "2024-02-29 12:00:00.000000002")),
    CursorKind(DUCKDB, "TIMESTAMP_S", quoted("1969-12-31 23:59:59", "2024-02-29 12:00:00")),
    CursorKind(DUCKDB, "VARCHAR COLLATE NOCASE", quoted("1", "_", "a|A", "B|b", "z|Z", "ä")),
    CursorKind(DUCKDB, "VARCHAR COLLATE de", quoted("1", "a", "ä", "b", "Z")),
    CursorKind(DUCKDB, "mood", quoted("sad", "ok", "happy"),
               before=("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",)),
)  # fmt: skip

PARQUET_KINDS = (
    CursorKind(PARQUET, "UBIGINT", plain("0", "9223372036854775808", "18446744073709551615")),
    CursorKind(PARQUET, "DECIMAL(38,10)", plain("-0.0000000001", f"{_LONG}.0000000001",
                                                f"{_NINES}.9999999999")),
    CursorKind(PARQUET, "DOUBLE", plain("'-inf'", "-1e-300", "0.1", "0.30000000000000004")),
    CursorKind(PARQUET, "TIMESTAMP_NS", quoted("1969-12-31 23:59:59.999999999",
                                               "2024-02-29 12:00:00.000000001",
                                               "2024-02-29 12:00:00.000000002")),
    CursorKind(PARQUET, "TIMESTAMPTZ", quoted("1969-12-31 23:59:59.999999Z", "2024-02-29 12:00:00.000001Z",
                                              "2024-02-29 12:00:00.000002Z")),
    CursorKind(PARQUET, "DATE", quoted("0001-01-01", "1969-12-31", "2024-02-29")),
    CursorKind(PARQUET, "UUID", quoted(*_UUIDS)),
    CursorKind(PARQUET, "VARCHAR", quoted("1", "A", "Z", "_", "a", "z", "ä", "😀")),
)  # fmt: skip
