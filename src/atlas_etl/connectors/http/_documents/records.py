"""Records in a JSON document: each as the text it was written in, found by a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias, TypeVar

import msgspec

from atlas_etl.connectors.http._documents.outer_list import HOLE, outer_list
from atlas_etl.connectors.http._documents.paths import EVERY, Chosen, Path
from atlas_etl.connectors.http._documents.repeated_members import has_room_for, refuse_repeated
from atlas_etl.connectors.json_faults import fault_of
from atlas_etl.errors import SourceError

Scalar: TypeAlias = str | int | float | bool | None
Found = TypeVar("Found")

SEPARATOR: Final = "__"  # of the names of members that are flattened

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
_SCALAR = msgspec.json.Decoder(str | int | float | bool | None)
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_NOTHING = msgspec.Raw(b"null")
_HOLE = msgspec.Raw(HOLE)


class Document:
    """One JSON document. Whatever is asked of it is checked to its end: SourceError (`malformed_json`)."""

    def __init__(self, content: bytes, where: str) -> None:
        self._where = where
        self._content = content
        text = content.removeprefix(BYTE_ORDER_MARK).strip(_BLANKS)
        self._outer = outer_list(text)
        self._whole = msgspec.Raw(text)
        self._root = self._whole if self._outer is None else msgspec.Raw(self._outer.around)
        self._of_root: dict[str, msgspec.Raw] | None = None  # its members, once they were asked for
        self._has_no_repeated = False  # members at its root
        self.has_null_for_records = False  # as far as they were asked for

    def find(self, path: Path) -> Scalar:
        """What is at a path: None where there is nothing, or no scalar.

        A number that no float holds with all its digits is its text.
        """
        found = self._at(path)
        return self._scalar(found) if found is not None else None

    def column(self, name: str) -> Scalar:
        """What the column of this name has: a member, or one inside of others, as they are flattened."""
        found = self._inside(self._root, name)
        return self._scalar(found) if found is not None else None

    def _inside(self, value: msgspec.Raw, name: str) -> msgspec.Raw | None:
        members = self._members(value) if _first(value) == b"{" else {}
        found, at = members.get(name), name.find(SEPARATOR)
        while found is None and at != -1:
            above = members.get(name[:at])
            found = self._inside(above, name[at + len(SEPARATOR) :]) if above is not None else None
            at = name.find(SEPARATOR, at + 1)
        return found

    def scalars(self, path: Path) -> tuple[Scalar, ...]:
        """What is in the list at a path; nothing where there is none, or it has other things, too."""
        found = self._at(path)
        items = self._items(found) if found is not None and _first(found) == b"[" else []
        return tuple(map(self._scalar, items)) if all(_first(item) not in b"[{" for item in items) else ()

    def _scalar(self, found: msgspec.Raw) -> Scalar:
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
        return bool(self._members(found) if _first(found) == b"{" else self._items(found))

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
        if _first(self._root) not in (b"{", b"["):
            self._decoded(_ANYTHING, self._root)
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
                records += self._items(value)
            elif first == b"n":
                self.has_null_for_records = True
            else:
                records.append(self._with_list(value))
        return records

    def is_one(self, records: Sequence[msgspec.Raw]) -> bool:
        """Whether the document itself is the only record."""
        return len(records) == 1 and records[0] is self._whole and _first(self._root) == b"{"

    def members(self, path: Path = ()) -> Mapping[str, msgspec.Raw]:
        """The members of the object at a path; none where there is no object."""
        found = self._at(path)
        return self._members(found) if found is not None and _first(found) == b"{" else {}

    def lists(self, path: Path = ()) -> list[str]:
        """The names of those members that are lists."""
        return [name for name, value in self.members(path).items() if _first(value) == b"["]

    def _with_list(self, value: msgspec.Raw) -> msgspec.Raw:
        """The value as it was written."""
        if value is self._root:
            return self._whole
        if self._outer is None or HOLE not in (text := bytes(value)):
            return value
        return msgspec.Raw(text.replace(HOLE, self._outer.text))

    def _at(self, path: Path) -> msgspec.Raw | None:
        found = self._root
        for step in path:
            inside = self._chosen(found, step) if isinstance(step, Chosen) else self._member(found, step)
            if inside is None:
                return None
            found = inside
        return found

    def _member(self, value: msgspec.Raw, name: str) -> msgspec.Raw | None:
        if _first(value) != b"{":
            return None
        members = self._members(value)
        is_checked = value is self._root and self._has_no_repeated
        if name in members and not is_checked and has_room_for(name, value, members):
            text = bytes(value)
            if text.count(_quoted(name)) > 1:
                refuse_repeated(text, members, self._where)
                self._has_no_repeated |= value is self._root
        return members.get(name)

    def _chosen(self, value: msgspec.Raw, step: Chosen) -> msgspec.Raw | None:
        """The first item of a list whose member has this text."""
        wanted = msgspec.Raw(msgspec.json.encode(step.text))
        items = self._items(value) if _first(value) == b"[" else []
        return next((item for item in items if self._member(item, step.member) == wanted), None)

    def _members(self, value: msgspec.Raw) -> dict[str, msgspec.Raw]:
        if value is not self._root:
            return self._decoded(_MEMBERS, value)
        if self._of_root is None:
            self._of_root = self._decoded(_MEMBERS, value)
        return self._of_root

    def _items(self, value: msgspec.Raw) -> list[msgspec.Raw]:
        if self._outer is not None and value == _HOLE:
            return self._outer.items
        return self._decoded(_ITEMS, value)

    def _decoded(self, decoder: msgspec.json.Decoder[Found], value: msgspec.Raw) -> Found:
        try:
            return decoder.decode(value)
        except (msgspec.DecodeError, RecursionError) as failure:
            raise _malformed(self._content, self._where, failure) from None

    def _step(self, value: msgspec.Raw, step: str, above: Sequence[str]) -> Sequence[msgspec.Raw]:
        first = _first(value)
        if first == b"n":
            self.has_null_for_records = True
            return ()
        if step == EVERY and first == b"[":
            return self._items(value)
        if first == b"{":
            members = self._members(value)
            if step == EVERY:
                return list(members.values())
            found = self._member(value, step)
            if found is not None:
                return (found,)
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


def lines(content: bytes, where: str) -> list[msgspec.Raw]:
    """The records of JSON lines. Raises SourceError (`malformed_json`)."""
    try:
        return msgspec.json.Decoder(msgspec.Raw).decode_lines(content.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, RecursionError) as failure:
        raise _malformed(content, where, failure) from None


def _quoted(name: str) -> bytes:
    return f'"{name}"'.encode()


def _first(value: msgspec.Raw) -> bytes:
    return bytes(memoryview(value)[:1])


def _malformed(content: bytes, where: str, failure: Exception) -> SourceError:
    """What ends before its time may be whole the next time; what is wrong in itself is wrong again."""
    is_cut_off = not content.strip()
    if is_cut_off:
        reason = "it is empty"
    elif content.lstrip()[:1] == b"<":
        reason = "it is HTML or XML"
    else:
        reason = fault_of(content, failure)
        is_cut_off = "truncated" in reason
    return SourceError(
        f"{where} answered with what is not JSON: {reason}",
        hint="an answer that was cut off is read again; if it comes so each time, its server makes it so"
        if is_cut_off
        else "check the address, or set `format` to what the API answers with",
        code="malformed_json",
        retryable=is_cut_off,
    )
