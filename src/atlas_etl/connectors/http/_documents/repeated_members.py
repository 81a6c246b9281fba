"""Members that stand twice in one object of JSON: which of them is meant, nobody can tell (RFC 8259, 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from atlas_etl.errors import SourceError


def has_room_for(name: str, text: msgspec.Raw, members: Mapping[str, msgspec.Raw]) -> bool:
    """Whether an object is long enough to hold a member of this name besides those that were read of it."""
    written = sum(len(each) + len(value) + len('"":,') for each, value in members.items()) + len("{")
    return len(text) - written >= len(name) + len('"":0,')


def refuse_repeated(text: bytes, read: object, where: str) -> None:
    """Raises SourceError (`member_twice`) where `repeated_member` finds one."""
    name = repeated_member(text, read)
    if name is not None:
        raise SourceError(
            f"{where} has an object in which {name[:80]!r} stands twice: which of both is meant is not said",
            hint="nothing of it was loaded; that is for the API's makers to mend",
            code="member_twice",
        )


def repeated_member(text: bytes, read: object) -> str | None:
    """A name that stands twice in `text`: an object, or a list of objects. Objects within them do not count.

    `read` is what was read of it, by the members' own texts: the last one of each name.
    """
    again = msgspec.json.encode(read)
    if len(again) == len(text) or len(_compact(again)) == len(_compact(text)):
        return None
    found = json.loads(
        text.decode(errors="replace"), object_pairs_hook=_twice, parse_int=str, parse_float=str
    )
    # There may be none: names are shorter without escapes.
    return next((name for name in (found if isinstance(found, list) else [found]) if name is not None), None)


def _compact(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1)


def _twice(members: list[tuple[str, object]]) -> str | None:
    names = [name for name, _ in members]
    return next((name for at, name in enumerate(names) if name in names[:at]), None)
