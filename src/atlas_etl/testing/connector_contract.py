"""The contract of Connector and Extract, for a protocol that is read from."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from atlas_etl import values
from atlas_etl.connectors.clocks_back import MOST
from atlas_etl.connectors.preview import preview
from atlas_etl.contracts import Extract
from atlas_etl.errors import NullCursorError, SourceError
from atlas_etl.model import BatchLimits, CursorKind, CursorValue, NullCursor, ReadRequest
from atlas_etl.testing.source import PEOPLE, Person, Source, as_row, moment, read, texts


class ConnectorContract:
    """What every connector keeps. A class of tests that inherits it has a fixture `source`, a Source."""

    def test_every_row_arrives_as_it_is(self, source: Source) -> None:
        source.create(PEOPLE)
        rows, checkpoint = read(source, ReadRequest(source.stream()))
        assert sorted(rows) == sorted(map(as_row, PEOPLE))
        assert checkpoint is None

    def test_the_checkpoint_is_the_greatest_cursor_read(self, source: Source) -> None:
        source.create(PEOPLE)
        _, checkpoint = read(source, ReadRequest(source.stream(cursor="updated_at")))
        high = moment("2026-01-02 00:00:00.500000")
        assert checkpoint is not None
        assert (checkpoint.cursor, checkpoint.high) == ("updated_at", high)
        assert checkpoint.tail_from in (high, values.earlier(high, MOST))  # where a clock may be put back
        _, by_id = read(source, ReadRequest(source.stream(cursor="id")))
        assert by_id is not None
        assert by_id.high == CursorValue(CursorKind.INTEGER, "4")

    def test_reading_goes_on_inclusively_so_that_ties_are_read_again(self, source: Source) -> None:
        source.create(PEOPLE)
        request = ReadRequest(source.stream(cursor="updated_at"), since=moment("2026-01-01 10:00:00.000002"))
        rows, _ = read(source, request)
        assert sorted(row[0] for row in rows if row[0]) == ["2", "3", "4"]
        source.insert([(5, "late tie", "1.00", "2026-01-02 00:00:00.500000")])
        request = ReadRequest(source.stream(cursor="updated_at"), since=moment("2026-01-02 00:00:00.500000"))
        rows, _ = read(source, request)
        assert sorted(row[0] for row in rows if row[0]) == ["4", "5"]

    def test_a_whole_number_as_cursor(self, source: Source) -> None:
        source.create([(n, "x", "1.00", None) for n in (1, 9, 10, 11)])
        request = ReadRequest(source.stream(cursor="id"), since=CursorValue(CursorKind.INTEGER, "10"))
        rows, checkpoint = read(source, request)
        assert sorted(row[0] for row in rows if row[0]) == ["10", "11"]
        assert checkpoint is not None
        assert checkpoint.high.text == "11"

    def test_what_will_be_read_is_told_before_it_is(self, source: Source) -> None:
        source.create(PEOPLE)
        connector = source.connector
        try:
            with connector.open(
                ReadRequest(source.stream(cursor="updated_at"), since=moment(PEOPLE[1][3] or ""))
            ) as extract:
                outline = extract.outline()
                assert all(outline.statements)
                rows = [row for batch in extract.batches() for row in texts(batch)]
        finally:
            connector.close()
        assert len(outline.statements) == 1
        assert sorted(rows) == sorted(map(as_row, PEOPLE[1:]))

    def test_nothing_new_gives_no_checkpoint(self, source: Source) -> None:
        source.create(PEOPLE)
        request = ReadRequest(source.stream(cursor="id"), since=CursorValue(CursorKind.INTEGER, "99"))
        assert read(source, request) == ([], None)

    def test_null_cursors(self, source: Source) -> None:
        people: list[Person] = [*PEOPLE, (5, "no time", "1.00", None)]
        source.create(people)
        with pytest.raises(NullCursorError, match="1 row") as caught:
            read(source, ReadRequest(source.stream(cursor="updated_at")))
        assert (caught.value.exit_code, caught.value.column) == (7, "updated_at")
        included = source.stream(cursor="updated_at", null_cursor=NullCursor.INCLUDE)
        rows, _ = read(source, ReadRequest(included))
        assert len(rows) == 5
        rows, _ = read(source, ReadRequest(included, since=moment("2026-01-02 00:00:00.500000")))
        assert sorted(row[0] for row in rows if row[0]) == ["4", "5"]
        excluded = source.stream(cursor="updated_at", null_cursor=NullCursor.EXCLUDE)
        rows, _ = read(source, ReadRequest(excluded))
        assert len(rows) == 4

    @pytest.mark.parametrize("cursor", ["updated_at", "id", "name", "amount"])
    def test_a_snapshot_is_read_again_within_bounds(self, source: Source, cursor: str) -> None:
        people: list[Person] = [
            *PEOPLE[:2],
            (3, "Łukasz 😀", "-0.01", "2026-01-01 10:00:00.000002"),
            PEOPLE[3],
        ]
        source.create(people)
        bound = {
            "updated_at": moment(people[1][3] or ""),
            "id": CursorValue(CursorKind.INTEGER, "2"),
            "name": CursorValue(CursorKind.TEXT, "Ada"),
            "amount": CursorValue(CursorKind.DECIMAL, "-0.01"),
        }[cursor]
        until = {"updated_at": "123", "id": "12", "name": "14", "amount": "23"}[cursor]
        connector = source.connector
        with connector.open(ReadRequest(source.stream(cursor=cursor))) as extract:

            def ids(again: Extract) -> str:
                rows = sorted(row[0] or "" for batch in again.batches() for row in texts(batch))
                return "".join(rows)

            assert ids(extract) == "1234"
            assert ids(extract.again(until=bound)) == until
            assert ids(extract.again(since=bound, after=bound)) == "".join(
                n for n in "1234" if n not in until
            )
            assert ids(extract.again()) == "1234"
            source.insert([(5, "Zoë", "99.00", "2026-01-03 00:00:00.000000")] if source.shared else [])
            assert ids(extract.again()) == "1234"
        connector.close()

    def test_checksums_count_rows_within_the_bound_and_tell_others(self, source: Source) -> None:
        source.create(PEOPLE)
        stream, bound = source.stream(cursor="updated_at"), moment(PEOPLE[1][3] or "")

        def checksums(until: CursorValue | None) -> Mapping[int, tuple[int, int]] | None:
            with source.connector.open(ReadRequest(stream)) as extract:
                found = extract.checksums(extract.schema.names, until=until)
                assert (found is not None) == (extract.text_forms().keys() >= set(extract.schema.names))
                return found

        whole, part = checksums(None), checksums(bound)
        source.insert([(5, "Zoë", "99.00", "2026-01-03 00:00:00.000000")])
        assert checksums(bound) == part
        if whole is not None and part is not None:
            assert sum(count for count, _ in whole.values()) == 4
            assert sum(count for count, _ in part.values()) == 3
            assert checksums(None) != whole
        source.connector.close()

    def test_rows_without_a_cursor_are_within_the_bounds_as_the_stream_wants_them(
        self, source: Source
    ) -> None:
        source.create([*PEOPLE, (5, "no time", "1.00", None)])
        bound = moment("2026-01-01 10:00:00.000001")
        for policy, until in ((NullCursor.INCLUDE, ["1", "5"]), (NullCursor.EXCLUDE, ["1"])):
            stream = source.stream(cursor="updated_at", null_cursor=policy)
            with source.connector.open(ReadRequest(stream)) as extract:
                for again, expected in (
                    (extract.again(until=bound), until),
                    (extract.again(since=bound, after=bound), ["2", "3", "4"]),
                ):
                    rows = [row[0] for batch in again.batches() for row in texts(batch)]
                    assert sorted(map(str, rows)) == expected

    def test_columns_are_chosen(self, source: Source) -> None:
        source.create(PEOPLE)
        with source.connector.open(ReadRequest(source.stream(columns=("name", "id")))) as extract:
            assert set(extract.schema.names) == {"id", "name"}
        with source.connector.open(ReadRequest(source.stream(exclude=("name",)))) as extract:
            assert extract.schema.names == ["id", "amount", "updated_at"]

    @pytest.mark.parametrize(
        "wrong", [{"cursor": "updated"}, {"primary_key": ("ids",)}, {"columns": ("nam",)}]
    )
    def test_a_column_that_is_not_there_is_named_with_the_nearest(
        self, source: Source, wrong: dict[str, object]
    ) -> None:
        source.create(PEOPLE)
        with pytest.raises(SourceError) as caught:
            read(source, ReadRequest(source.stream(**wrong)))
        assert caught.value.code == "column_not_found"
        assert caught.value.hint

    def test_batches_keep_within_the_limits(self, source: Source) -> None:
        source.create([(n, "x" * 1000, "1.00", None) for n in range(200)])
        with source.connector.open(ReadRequest(source.stream(), limits=BatchLimits(rows=30))) as extract:
            sizes = [batch.num_rows for batch in extract.batches()]
        assert sum(sizes) == 200
        assert max(sizes) <= 30
        with source.connector.open(ReadRequest(source.stream(), limits=BatchLimits(bytes=20_000))) as extract:
            assert max(batch.num_rows for batch in extract.batches()) <= 25

    def test_a_read_that_is_left_in_its_middle_ends_with_its_extract(self, source: Source) -> None:
        """Whoever holds the iterator still, as a traceback does, does not hold the connection."""
        source.create([(number, "x" * 500, None, None) for number in range(100)])
        request = ReadRequest(source.stream(), limits=BatchLimits(rows=10))
        with source.connector.open(request) as extract:
            left = extract.batches()
            assert next(left).num_rows
        rows, _ = read(source, ReadRequest(source.stream()))
        assert len(rows) == 100

    def test_preview_gives_the_first_rows(self, source: Source) -> None:
        source.create(PEOPLE)
        columns, rows = preview(source.connector, source.stream(), 2)
        assert columns == ["id", "name", "amount", "updated_at"]
        assert len(rows) == 2
        assert rows[0][2] == "10.50"

    def test_discover_and_describe(self, source: Source) -> None:
        source.create(PEOPLE)
        (found,) = source.connector.discover()
        assert "people" in found.name
        assert [column.name for column in found.columns] == ["id", "name", "amount", "updated_at"]
        assert "updated_at" in found.cursor_candidates
        described = source.connector.describe(source.stream())
        assert described.columns == found.columns

    def test_the_connection_can_be_tested_and_closed_twice(self, source: Source) -> None:
        source.create(PEOPLE)
        connector = source.connector
        assert connector.test().message
        connector.close()
        connector.close()

    def test_a_system_that_is_not_there_is_a_failure_of_the_source(self, source: Source) -> None:
        connector = source.connector_of({**source.config, **source.nowhere()})
        with pytest.raises(SourceError) as caught:
            connector.test()
        connector.close()
        assert caught.value.exit_code == 3
