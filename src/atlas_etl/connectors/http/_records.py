"""Records in a JSON document: each as the text it was written in, found by a path.

A path is JSONPath's plainest part: names with dots between them, and `[*]` or `*` for every item, e.g.
`data`, `result.items`, `edges[*].node`; `$` or nothing is the document itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeAlias, cast

import msgspec

from atlas_etl.errors import SourceError

Path: TypeAlias = tuple[str, ...]
Scalar: TypeAlias = str | int | float | bool | None

EVERY: Final = "*"
_STEP = re.compile(r"\.?(?:\[\s*(\*|'[^']*'|\"[^\"]*\")\s*\]|([^.\[\]]+))")
_PLAIN = re.compile(r"[^.\[\]]+")  # a step that needs no quotes

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_SCALAR = msgspec.json.Decoder(str | int | float | bool | None)
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_NOTHING = msgspec.Raw(b"null")

# Where most APIs keep their records, the commonest first.
_USUAL = (
    "data", "results", "items", "records", "value", "values", "rows", "entries", "content", "list", "docs",
    "elements", "objects", "hits", "nodes",
)  # fmt: skip
# What else may be a list beside them, and around them.
_BESIDE = frozenset({"errors", "warnings", "links", "link", "included", "facets"})
ENVELOPES: Final = ("d", "data", "result", "results", "response", "payload", "hits")
_HAL, _HAL_LINKS = "_embedded", "_links"
_HAL_MOVES = ("next", "prev", "first", "last")
_NONE_AT = (("page", "totalElements"), ("totalElements",), ("total",), ("count",), ("totalItems",))


def parse_path(text: str) -> Path:
    """The steps of a path. Raises ValueError."""
    rest = text.strip().removeprefix("$")
    steps: list[str] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None:
            raise ValueError(
                f"is no path: write names with dots between them, such as data.items, not {text!r}"
            )
        quoted, plain = found.groups()
        steps.append(plain.strip() if plain is not None else quoted.strip("'\""))
        at = found.end()
    return tuple(steps)


def written_path(path: Path) -> str:
    """The text that `parse_path` reads as these steps."""
    steps = (f".{step}" if _PLAIN.fullmatch(step) else f"['{step}']" for step in path)
    text = "".join(steps)
    return f"${text}" if text.startswith(".$") else text.removeprefix(".")


class Document:
    """One JSON document. Whatever is asked of it is checked to its end: SourceError (`malformed_json`)."""

    def __init__(self, content: bytes, where: str) -> None:
        self._where = where
        self._content = content
        self._root = msgspec.Raw(content.removeprefix(BYTE_ORDER_MARK).strip(_BLANKS))

    def find(self, path: Path) -> Scalar:
        """What is at a path: None where there is nothing, or no scalar.

        A number that no float holds with all its digits is its text.
        """
        found = self._at(path)
        if found is None:
            return None
        try:
            scalar: Scalar = _SCALAR.decode(found)
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, RecursionError) as failure:
            raise _malformed(self._content, self._where, failure) from None
        if isinstance(scalar, float) and Decimal(text := bytes(found).decode()) != Decimal(repr(scalar)):
            return text
        return scalar

    def holds_several(self, path: Path) -> bool:
        """Whether a list or an object is at a path, and something in it."""
        found = self._at(path)
        if found is None or _first(found) not in (b"{", b"["):
            return False
        return bool(self._members(found) if _first(found) == b"{" else _ITEMS.decode(found))

    def lacks(self, path: Path) -> bool:
        """Whether a path leads to an object that has all but the path's last member."""
        found = self._root
        for step in path[:-1]:
            inside = self._members(found).get(step) if _first(found) == b"{" else None
            if inside is None:
                return False
            found = inside
        return bool(path) and _first(found) == b"{" and path[-1] not in self._members(found)

    def records(self, path: Path) -> list[msgspec.Raw]:
        """The records at a path; an object alone is one, and null is none.

        Raises SourceError (`records_not_found`) where the path leads nowhere.
        """
        try:
            return _listed(path)(self._root)
        except msgspec.ValidationError:
            pass  # it is not that plain, or there is nothing
        except (msgspec.DecodeError, RecursionError) as failure:
            raise _malformed(self._content, self._where, failure) from None
        found = [self._root]
        for depth, step in enumerate(path):
            inside: list[msgspec.Raw] = []
            for value in found:
                inside += self._step(value, step, path[:depth])
            found = inside
        records: list[msgspec.Raw] = []
        for value in found:
            first = _first(value)
            if first == b"[":
                records += _ITEMS.decode(value)
            elif first != b"n":
                records.append(value)
        return records

    def is_one(self, records: Sequence[msgspec.Raw]) -> bool:
        """Whether the document itself is the only record."""
        return len(records) == 1 and records[0] is self._root and _first(self._root) == b"{"

    def is_empty_list(self) -> bool:
        """Whether it is a list of nothing that leaves its records out: HAL's, as Spring writes it."""
        if _first(self._root) != b"{":
            return False
        members = self._members(self._root)
        return _HAL_LINKS in members and _HAL not in members and any(self.find(at) == 0 for at in _NONE_AT)

    def records_path(self) -> Path:
        """Where the records seem to be: the document, or its only list, or the one with a usual name.

        In HAL (`_embedded`), OData's second version (`d.results`), Elasticsearch (`hits.hits`) and other
        envelopes it is the list in that. Raises SourceError (`records_not_found`) where several lists could
        be meant, and `answered_errors` where there are errors and nothing else.
        """
        if _first(self._root) != b"{":
            return ()
        members = self._members(self._root)
        lists = _lists(members)
        if candidates := [name for name in lists if name not in _BESIDE]:
            return (self._likeliest(candidates),)
        if (enclosed := self._enclosed(members)) is not None:
            return enclosed
        if "errors" in lists and self.holds_several(("errors",)):
            raise SourceError(
                f"{self._where} answered with `errors` and no records",
                hint="check what the resource asks for, and the rights of these credentials",
                code="answered_errors",
            )
        return tuple(lists) if len(lists) == len(members) == 1 else ()

    def _enclosed(self, members: Mapping[str, msgspec.Raw]) -> Path | None:
        """The list in an envelope; None where there is none, or it belongs to a single record."""
        if _first(members.get(_HAL, _NOTHING)) == b"{":
            inside = _lists(self._members(members[_HAL]))
            is_list = "id" not in members or any(
                self._at((_HAL_LINKS, move)) is not None for move in _HAL_MOVES
            )
            return (_HAL, self._likeliest(inside, above=_HAL)) if inside and is_list else None
        for name in ENVELOPES:
            if _first(members.get(name, _NOTHING)) != b"{":
                continue
            envelope = self._members(members[name])
            inside = [each for each in _lists(envelope) if each not in _BESIDE]
            usual = [each for each in _USUAL if each in inside]
            if "id" not in envelope and (usual or (inside and len(envelope) == 1)):
                return (name, (usual or inside)[0])
        return None

    def _likeliest(self, lists: Sequence[str], *, above: str = "") -> str:
        """The only list, or the one with a usual name. Raises SourceError (`records_not_found`)."""
        usual = [name for name in _USUAL if name in lists]
        if len(lists) == 1 or usual:
            return lists[0] if len(lists) == 1 else usual[0]
        places = ", ".join(written_path((*((above,) if above else ()), name)) for name in lists[:12])
        raise SourceError(
            f"{self._where} has several lists, and nothing says which of them the records are",
            hint=f"set `records` to one of {places}",
            code="records_not_found",
        )

    def _at(self, path: Path) -> msgspec.Raw | None:
        found = self._root
        for step in path:
            inside = self._members(found).get(step) if _first(found) == b"{" else None
            if inside is None:
                return None
            found = inside
        return found

    def _members(self, value: msgspec.Raw) -> dict[str, msgspec.Raw]:
        try:
            return _MEMBERS.decode(value)
        except (msgspec.DecodeError, RecursionError) as failure:
            raise _malformed(self._content, self._where, failure) from None

    def _step(self, value: msgspec.Raw, step: str, above: Sequence[str]) -> Sequence[msgspec.Raw]:
        first = _first(value)
        if first == b"n":
            return ()
        if step == EVERY and first == b"[":
            return _ITEMS.decode(value)
        if first == b"{":
            members = _MEMBERS.decode(value)
            if step == EVERY:
                return list(members.values())
            if step in members:
                return (members[step],)
            there = ", ".join(list(members)[:12])
        else:
            there = ""
        raise SourceError(
            f"{self._where} has nothing at {'.'.join((*above, step))!r}, where its records should be",
            hint=f"set `records` to where they are; at that place there is {there}"
            if there
            else "set `records` to where they are",
            code="records_not_found",
        )


def _lists(members: Mapping[str, msgspec.Raw]) -> list[str]:
    return [name for name, value in members.items() if _first(value) == b"["]


@cache
def _listed(path: Path) -> Callable[[msgspec.Raw], list[msgspec.Raw]]:
    """The list at a plain path, in a single pass over the document. Raises msgspec.ValidationError."""
    kind: Any = list[msgspec.Raw]
    for step in reversed(path):
        kind = msgspec.defstruct("Level", [("inside", kind)], rename={"inside": step}, gc=False)
    decoder = msgspec.json.Decoder(kind)

    def records(root: msgspec.Raw) -> list[msgspec.Raw]:
        found: Any = decoder.decode(root)
        for _ in path:
            found = found.inside
        return cast(list[msgspec.Raw], found)

    return records


def lines(content: bytes, where: str) -> list[msgspec.Raw]:
    """The records of JSON lines. Raises SourceError (`malformed_json`)."""
    try:
        return msgspec.json.Decoder(msgspec.Raw).decode_lines(content.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, RecursionError) as failure:
        raise _malformed(content, where, failure) from None


def _first(value: msgspec.Raw) -> bytes:
    return bytes(memoryview(value)[:1])


def _malformed(content: bytes, where: str, failure: Exception) -> SourceError:
    """What ends before its time may be whole the next time; what is wrong in itself is wrong again."""
    is_cut_off = not content.strip()
    if isinstance(failure, RecursionError):
        reason = "it is nested too deeply"
    elif is_cut_off:
        reason = "it is empty"
    elif content.lstrip()[:1] == b"<":
        reason = "it is HTML or XML"
    else:
        reason = str(failure).removeprefix("JSON is malformed: ")[:80]
        is_cut_off = "truncated" in reason
    return SourceError(
        f"{where} answered with what is not JSON: {reason}",
        hint="an answer that was cut off is read again; if it comes so each time, its server makes it so"
        if is_cut_off
        else "check the address, or set `format` to what the API answers with",
        code="malformed_json",
        retryable=is_cut_off,
    )
