"""Columns of JSON records: the parser's way and the exact way give the same, and types hold over pages."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.http._columns import Columns
from atlas_etl.connectors.http._lines import Lines, lines_of
from atlas_etl.connectors.record_parser import RecordParser, has_parser
from atlas_etl.errors import SourceError
from atlas_etl.model import KnownColumns

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def records(*texts: str) -> Lines:
    return lines_of(_ITEMS.decode(f"[{','.join(texts)}]".encode()))


def columns(known: KnownColumns | None = None, *, flatten: bool = False, **declared: pa.DataType) -> Columns:
    return Columns("the API", declared=declared, known=known, asked=(), flatten=flatten)


def types(found: Columns) -> dict[str, str]:
    return {field.name: values.type_name(field.type) for field in found.schema}


def test_types_are_the_narrowest_exact_ones() -> None:
    found = columns()
    found.see(
        records(
            '{"id": 9223372036854775807, "price": 19.90, "at": "2026-01-01T10:00:00Z", "on": "2026-01-01"}',
            '{"id": 1, "price": 1234567890123456.789, "ok": true, "tags": ["a"], "name": "x", "none": null}',
        )
    )
    assert types(found) == {
        "id": "int64", "price": "decimal(19,3)", "at": "timestamp with time zone", "on": "date",
        "ok": "boolean", "tags": "json", "name": "text",
    }  # fmt: skip


@pytest.mark.parametrize(
    "later",
    [
        '{"id": "A-1"}', '{"id": 1.5}', '{"id": 99999999999999999999}', '{"id": 1, "new": 1}', '{"id": [1]}',
        '{"id": true}', '{"id": {}}',
    ],
)  # fmt: skip
def test_a_page_that_does_not_fit_says_so_and_widens(later: str) -> None:
    found = columns()
    found.see(records('{"id": 1}'))
    before = found.schema
    assert found.decode(records('{"id": 2}'), before) is not None
    assert found.decode(records(later), before) is None
    whole = found.decode(records('{"id": 1}', later), found.schema)
    assert whole is not None
    cells = values.to_text(values.storage(whole.column("id"))).to_pylist()
    assert cells[0] in ("1", "1.0", "1")
    assert found.schema.field("id").type != pa.int64() or "new" in found.schema.names


def test_a_nullable_member_that_differs_later_is_seen_by_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    found = columns()
    found.see(records('{"id": 1, "closed": null}'))
    assert found.schema.names == ["id"]
    assert found.decode(records('{"id": 2, "closed": null}'), found.schema) is not None
    assert found.decode(records('{"id": 2, "closed": "2026-01-01"}'), found.schema) is None
    assert types(found)["closed"] == "date"


def test_a_string_in_a_column_of_decimals_is_no_decimal() -> None:
    found = columns()
    found.see(records('{"price": 1.50}'))
    assert found.decode(records('{"price": "01.50"}'), found.schema) is None
    whole = found.decode(records('{"price": 1.50}', '{"price": "01.50"}'), found.schema)
    assert whole is not None
    assert whole.column("price").to_pylist() == ["1.50", "01.50"]


@pytest.mark.parametrize(
    "page",
    [
        ('{"a": "x", "p": "1.5"}', '{"a": "y", "p": 2.5}'),
        ('{"a": "x", "p": "1.5"}', '{"p": 2.5}'),  # as many quotes as two whole records
        ('{"a": "x:y", "p": "1.5"}', '{"p": 2.5}'),  # as many colons, too
        ('{"a": "x\\u003ay", "p": "1.5"}', '{"p": 2.5}'),
        ('{"a": "\\"", "p": "1.5"}', '{"a": null}'),
    ],
)
def test_a_decimal_in_quotes_is_seen_however_the_signs_add_up(page: tuple[str, ...]) -> None:
    found = columns()
    found.see(records('{"a": "x", "p": 1.5}', '{"a": null, "p": 2.25}'))
    assert found.decode(records(*page), found.schema) is None
    assert types(found)["p"] == "text"


@pytest.mark.parametrize(
    ("page", "is_counted"),
    [
        (('{"a": "x: y", "p": 1.5}', '{"a": null, "p": 3}'), True),
        (('{"a": "x", "p": 1.5}', '{"p": 3}'), False),
        (('{"a": "\\"", "p": 1.5}',), False),
    ],
)
def test_counting_spares_a_second_look_at_decimals(
    page: tuple[str, ...], is_counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Lines] = []
    found = columns()
    found.see(records('{"a": "x", "p": 1.5}', '{"a": null, "p": 2.25}'))
    checked = RecordParser._checked_decoder

    class Watched:
        def __init__(self, decoder: msgspec.json.Decoder[msgspec.Struct]) -> None:
            self.decoder = decoder

        def decode_lines(self, content: bytes) -> list[msgspec.Struct]:
            looked.append(Lines(content, 0))
            return self.decoder.decode_lines(content)

    monkeypatch.setattr(
        RecordParser,
        "_checked_decoder",
        lambda self, *, exhaustive: Watched(checked(self, exhaustive=exhaustive)),
    )
    batch = found.decode(records(*page), found.schema)
    assert batch is not None
    assert batch["p"].to_pylist() == [json.loads(text, parse_float=Decimal).get("p") for text in page]
    assert not looked if is_counted else looked


def test_the_types_of_a_table_are_kept_as_long_as_they_hold_the_values() -> None:
    schema = pa.schema(
        [("id", pa.uuid()), ("n", pa.int16()), ("d", pa.decimal128(10, 2)), ("at", pa.time64("us"))]
    )
    row = '{"id": "0b1f5a3e-7c3a-4c7b-9d2e-2f6f5a3e7c3a", "n": 7, "d": 1.5, "at": "08:00:00"}'
    found = columns(KnownColumns(schema, frozenset(schema.names)))
    found.see(records(row))
    assert found.schema.equals(schema)
    for _ in range(2):
        decoded = found.decode(records(row), found.schema)
        assert decoded is not None
        assert [cell.as_py() for cell in values.storage(decoded["n"])] == [7]
    for later in ('"n": 32768', '"d": 1.555', '"id": "x"', '"at": "8"'):
        assert found.decode(records("{" + later + "}"), schema) is None


def test_numbers_that_a_double_would_round_keep_their_digits() -> None:
    found = columns()
    found.see(records('{"x": 1e-7}'))
    assert types(found) == {"x": "double"}
    assert found.decode(records('{"x": 0.12345678901234567890}'), found.schema) is None
    whole = found.decode(records('{"x": 1e-7}', '{"x": 0.12345678901234567890}'), found.schema)
    assert whole is not None
    assert whole.column("x").to_pylist() == ["1e-7", "0.12345678901234567890"]


def test_what_text_documents_and_doubles_took_in_earlier_stays() -> None:
    schema = pa.schema(
        [("code", pa.string()), ("any", pa.json_()), ("x", pa.float64()), ("at", pa.timestamp("us"))]
    )
    found = columns(KnownColumns(schema, frozenset(schema.names)))
    found.see(records('{"code": 7, "any": 1, "x": 2}'))
    assert types(found) == {"code": "text", "any": "json", "x": "double", "at": "timestamp"}
    row = found.decode(records('{"code": 7, "any": 1, "x": 2}'), found.schema)
    assert row is not None
    assert row.column("code").to_pylist() == ["7"]
    assert row.column("at").to_pylist() == [None]


def test_text_that_stands_for_a_type_that_a_destination_does_not_have_is_inferred() -> None:
    found = columns(KnownColumns(pa.schema([("at", pa.string())])))
    found.see(records('{"at": "2026-01-01T00:00:00Z"}'))
    assert types(found) == {"at": "timestamp with time zone"}


def test_objects_inside_become_columns_where_that_is_wanted() -> None:
    found = columns(flatten=True)
    page = records('{"id": 1, "to": {"city": "Łódź", "geo": {"lat": 1.5}}, "none": {}, "list": [{"a": 1}]}')
    found.see(page)
    assert found.schema.names == ["id", "to__city", "to__geo__lat", "none", "list"]
    row = found.decode(page, found.schema)
    assert row is not None
    assert values.json_rows(row)[0][1] == "Łódź"


def test_records_that_are_no_objects() -> None:
    with pytest.raises(SourceError) as caught:
        columns().see(records("1", "2"))
    assert caught.value.code == "not_objects"


def test_a_declared_type_that_a_value_is_not() -> None:
    found = columns(id=pa.int32())
    page = records('{"id": 1}', '{"id": "x"}')
    found.see(page)
    with pytest.raises(SourceError, match="'id' is no int32") as caught:
        found.decode(page, found.schema)
    assert caught.value.column == "id"


TEXTS = st.sampled_from(
    [
        "null", "true", "false", "0", "-0", "7", "-12", "9223372036854775808", "1.5", "1.50", "-0.0",
        "1e3", "1E-400", "12345678901234567890.123456789", '""', '"a"', '"12"', '"1.5"', '"true"',
        '"2026-01-01"', '"2026-02-30"', '"2026-01-01T10:00:00Z"', '"2026-01-01T10:00:00.123456789+02:00"',
        '"2026-01-01 10:00"', '"0000-01-01"', '"\\u00e9\\n\\ud83d\\ude00"', '"\\u0000"', "[]",
        '{"a": "}"}', '[1, "2"]', '" "', '"a\\"b"',
    ]
)  # fmt: skip
RECORD = st.dictionaries(st.sampled_from(["a", "b", 'c"', "é"]), TEXTS, max_size=4).map(
    lambda row: "{" + ", ".join(f"{json.dumps(name)}: {cell}" for name, cell in row.items()) + "}"
)
PAGES = st.lists(st.lists(RECORD, min_size=1, max_size=4), min_size=1, max_size=4)


@settings(deadline=None)
@given(PAGES)
def test_both_ways_give_the_same(pages: list[list[str]]) -> None:
    whole = [records(*page) for page in pages]
    found = columns()
    for page in whole:
        found.see(page)
    schema = found.schema
    for page in whole:
        by_either = found.decode(page, schema)
        exact = columns()
        exact._columns, exact.rows = found._columns, 0
        by_text = (
            pa.RecordBatch.from_arrays(
                [exact._typed(exact._objects(page), field) for field in schema], schema=schema
            )
            if len(schema)
            else None
        )
        assert by_either is not None
        if by_text is not None:
            assert by_either.equals(by_text)


@settings(deadline=None)
@given(PAGES)
@example([['{"b": 9223372036854775808}'], ['{"b": 1e3}']])
def test_a_parsed_page_is_one_that_would_not_have_widened_anything(pages: list[list[str]]) -> None:
    found, exact = columns(), columns()
    found.see(records(*pages[0]))
    exact.see(records(*pages[0]))
    schema = found.schema
    for page in pages[1:]:
        lines = records(*page)
        is_parsed = page and has_parser(found._columns)
        parsed = found._new_parser().parse(lines.content, lines.count, schema) if is_parsed else None
        if parsed is not None:
            exact.see(records(*page))
            assert exact.schema.names == schema.names
            widened = {field.name: field.type for field in exact.schema}
            for field in schema:
                cells = values.to_text(values.storage(parsed.column(field.name))).to_pylist()
                if pa.types.is_decimal(field.type) and pa.types.is_string(widened[field.name]):
                    written = exact._typed(exact._objects(records(*page)), pa.field(field.name, pa.string()))
                    assert [*map(_number, cells)] == [*map(_number, written.to_pylist())]
                    continue
                assert widened[field.name] == field.type or _is_same(field.type, widened[field.name]), cells


def _number(text: str | None) -> Decimal | None:
    """A decimal holds a number with an exponent, too, which as a text would keep its spelling."""
    return None if text is None else Decimal(text)


def _is_same(one: pa.DataType, other: pa.DataType) -> bool:
    """Decimals of fewer digits, and times of fewer decimals, hold the parsed values as well."""
    exact = (pa.types.is_decimal, pa.types.is_integer, pa.types.is_timestamp, pa.types.is_floating)
    return any(test(one) for test in exact) and any(test(other) for test in exact)


def test_the_parser_is_what_reads_plain_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = columns()
    page = records('{"id": 1, "price": 1.50, "at": "2026-01-01T10:00:00Z", "tags": [1]}')
    found.see(page)
    monkeypatch.setattr(Columns, "_objects", None)  # the exact way
    row = found.decode(page, found.schema)
    assert row is not None
    assert row.column("price").to_pylist() == [Decimal("1.50")]
