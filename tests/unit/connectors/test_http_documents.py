"""Answers of JSON: what is found in them, wherever their lists are."""

from __future__ import annotations

import json
from typing import TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas_etl.connectors.http._documents.records import Document
from atlas_etl.errors import SourceError

Value: TypeAlias = "bool | int | str | list[Value] | dict[str, Value] | None"

NAMES = st.sampled_from(["data", "items", "next", "a[", "]b", "[]"])
TEXTS = st.sampled_from(["", "see [1]", "[", "]", "x] [y", '"[', "[\t\r\n\t]", "\\[]"])
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 9), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)
DOCUMENTS = st.one_of(st.dictionaries(NAMES, VALUES, max_size=4), st.lists(VALUES, max_size=3))
WRITTEN = st.sampled_from([(", ", ": "), (",", ":"), (" ,\r\n\t", "\t:\n")])


def _model(document: Value, path: tuple[str, ...]) -> list[Value] | None:
    """The records at a path, as Python's own reader finds them; None where the path leads nowhere."""
    for step in path:
        if document is None:
            return []
        if not isinstance(document, dict) or step not in document:
            return None
        document = document[step]
    if isinstance(document, list):
        return document
    return [] if document is None else [document]


@example({"id": 1, "tags": ["a"], "name": "one"}, (",", ":"), ())
@example({"data": {"id": 1, "tags": ["a", []]}}, (",", ":"), ("data",))
@example({"id": 1, "tags": ["a long word", "and another one"], "name": "one"}, (",", ":"), ())
@example({"data": {"id": 1, "tags": ["a long word", ["and", "another one"]]}}, (",", ":"), ("data",))
@example({"message": "[1, 2, 3, 4, 5, 6, 7, 8]"}, (",", ":"), ())
@example({"message": "see [1]"}, (",", ":"), ())
@example({"data": [{"tags": []}], "next": 2}, (", ", ": "), ("data",))
@given(DOCUMENTS, WRITTEN, st.lists(NAMES, max_size=3).map(tuple))
def test_records_are_what_stands_at_their_path(
    document: Value, separators: tuple[str, str], path: tuple[str, ...]
) -> None:
    content = json.dumps(document, separators=separators).encode()
    expected = _model(document, path)
    read = Document(content, "here")
    if expected is None:
        with pytest.raises(SourceError, match="has nothing at"):
            read.records(path)
        return
    assert [json.loads(bytes(record)) for record in read.records(path)] == expected
    if path and isinstance(document, dict) and isinstance(found := document.get(path[0]), dict):
        assert read.lists(path[:1]) == [name for name, value in found.items() if isinstance(value, list)]
    for name, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, str | int | None):
            assert read.find((name,)) == value
        else:
            assert read.holds_several((name,)) is bool(value)


@pytest.mark.parametrize(
    "content",
    [
        b'{"data": [1, 2], "next": }',
        b'{"data": [1, 2], "next": 3',
        b'{"data": [1, 2]]}',
        b'{"data": [1 2], "next": 3}',
        b'{"data": [1, 2] "next": 3}',
        b'{"message": "a [1]\tb"}',
    ],
)
def test_a_document_is_checked_to_its_end(content: bytes) -> None:
    with pytest.raises(SourceError, match="not JSON"):
        Document(content, "here").find(("other",))
    with pytest.raises(SourceError, match="not JSON"):
        Document(content, "here").records(("data",))
