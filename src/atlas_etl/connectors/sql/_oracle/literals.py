"""Names and values as Oracle's SQL writes them.

Literals: https://docs.oracle.com/en/database/oracle/oracle-database/23/sqlrf/Literals.html. In the character
set of the database a text of another one would lose letters, so national texts are written by their UTF-16.
"""

from __future__ import annotations

import re

SECONDS = 'YYYY-MM-DD"T"HH24:MI:SS'
_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)")


def moment(digits: int) -> str:
    """The format of a time with so many digits of a second."""
    return f"{SECONDS}.FF{digits}" if digits else SECONDS


def signed(digits: int) -> str:
    """The same with a blank or, of years before 1, a minus in front."""
    return f"S{moment(digits)}"


def quoted(identifier: str) -> str:
    """An identifier. None has a quotation mark in it: with two of them the server refuses it."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text, which the server converts to the character set of the database."""
    return "'" + text.replace("'", "''") + "'"


def national_literal(text: str) -> str:
    """A text of any characters, of type NVARCHAR2."""
    units = text.encode("utf-16-be").hex()
    escaped = "".join("\\" + units[at : at + 4] for at in range(0, len(units), 4))
    return f"UNISTR('{escaped}')"


def number(text: str) -> str:
    """A number in plain digits. Raises ValueError for anything else."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("is no number in plain digits")
    return text
