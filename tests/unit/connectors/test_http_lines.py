"""Records as lines: each is on its own, however it was written, and reads as it was."""

from __future__ import annotations

import json

import msgspec

from atlas_etl.connectors.http._columns import Columns
from atlas_etl.connectors.http._lines import Lines, joined, lines_of

_RECORDS = [{"id": 1, "note": "a\nb"}, {"id": 2, "note": "\r\n"}]
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def pages() -> list[Lines]:
    """Records on one line, over several, with nothing in them, and with ends of lines of both kinds."""
    found = [
        json.dumps(_RECORDS),
        json.dumps(_RECORDS, indent=2),
        "[{}, {\n}]",
        '[{"id": 3},\r\n\n{"id":\r\n4}]',
    ]
    return [lines_of(_ITEMS.decode(text.encode())) for text in found]


def test_a_record_is_a_line() -> None:
    for page in pages():
        assert page.content.count(b"\n") == page.count - 1
    assert [json.loads(line) for line in pages()[1].content.split(b"\n")] == _RECORDS
    assert lines_of([]) == Lines(b"", 0)


def test_pages_of_all_kinds_are_read_together() -> None:
    both = joined(pages())
    assert both.count == 8
    columns = Columns("the API", declared={}, known=None, asked=(), flatten=False)
    columns.see(both)
    rows = columns.decode(both, columns.schema)
    assert rows is not None
    assert rows.column("id").to_pylist() == [1, 2, 1, 2, None, None, 3, 4]
    assert rows.column("note").to_pylist()[:4] == ["a\nb", "\r\n", "a\nb", "\r\n"]
