"""Resources that depend on another one's records: `/orders/{order_id}/refunds` for each order.

Templates are plain substitution of the names that `parent` gives: nothing is evaluated, and what replaces a
name is never looked at again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._documents.records import Document
from atlas_etl.connectors.http._settings.connection import Parent
from atlas_etl.connectors.http._templates import Values
from atlas_etl.errors import SourceError

_BRACE = b"{"
_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])


def values_of(parent: Parent, record: msgspec.Raw) -> Values:
    """What the parent's record gives to its children. Raises SourceError (`no_parent_value`)."""
    document = Document(bytes(record), "a record")
    found = {name: document.find(parse_path(path)) for name, path in parent.fields.items()}
    for name, value in found.items():
        if value is None:
            raise SourceError(
                f"a record of {parent.resource!r} has nothing at {parent.fields[name]!r}",
                hint="set `fields` under `parent` to members that every record has",
                code="no_parent_value",
            )
    return found


def distinct(parents: Iterable[Values]) -> Iterator[tuple[str, Values]]:
    """Each parent once, with its key: the same values would bring the same records again."""
    seen: set[str] = set()
    for found in parents:
        if (key := parent_key(found)) not in seen:
            seen.add(key)
            yield key, found


def parent_key(found: Values) -> str:
    """What tells a parent from others: a digest of what its children are asked for with."""
    content = msgspec.json.encode([[name, value] for name, value in sorted(found.items())])
    return base64.b64encode(hashlib.blake2b(content, digest_size=15).digest()).decode()


def with_values(records: list[msgspec.Raw], values: Values) -> list[msgspec.Raw]:
    """The records with the parent's values as members; where they have such members, those count."""
    members, names = _written_members(values), [f'"{name}"'.encode() for name in values]
    return [
        _spliced(record, _written_members(_unless_own(record, values)))
        if any(name in record for name in names)
        else _spliced(record, members)
        for record in map(bytes, records)
    ]


def _written_members(values: Values) -> bytes:
    return msgspec.json.encode(values)[1:-1]


def _unless_own(record: bytes, values: Values) -> Values:
    own = _NAMES.decode(record) if record[:1] == _BRACE else {}
    return {name: value for name, value in values.items() if name not in own}


def _spliced(record: bytes, members: bytes) -> msgspec.Raw:
    if record[:1] != _BRACE:
        return msgspec.Raw(record)  # no object: the columns refuse it
    rest = record[1:].lstrip()
    return msgspec.Raw(_BRACE + members + (b"" if rest == b"}" or not members else b",") + rest)
