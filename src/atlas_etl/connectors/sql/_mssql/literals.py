"""Names and texts as T-SQL writes them: the driver would put parameters into the statement as well."""

from __future__ import annotations

import re

# A backslash at the end of a line joins it with the next, also within a literal:
# https://learn.microsoft.com/sql/t-sql/language-elements/sql-server-utilities-statements-backslash.
_JOINED = re.compile(r"\\(?=\r?\n)")


def quoted(identifier: str) -> str:
    """An identifier, whatever characters it has."""
    return "[" + identifier.replace("]", "]]") + "]"


def literal(text: str) -> str:
    """A text of any characters. NUL would end the statement."""
    if "\0" in text:
        return f"CAST(0x{text.encode('utf-16-le').hex()} AS nvarchar(max))"
    parts = _JOINED.split(text.replace("'", "''"))
    return parts[0].join(("N'", "'")) if len(parts) == 1 else f"({_glued(parts)})"


def _glued(parts: list[str]) -> str:
    *lines, last = parts
    return " + ".join([*(f"N'{line}\\'" for line in lines), f"N'{last}'"])
