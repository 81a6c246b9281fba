"""Shapes of answers that are recognised without a description: where records are, and how pages follow."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read

THINGS = Stream("things", path="things")
RECORDS = [{"id": number, "name": f"n{number}"} for number in range(1, 8)]
SIZE = 3
PAGES = 3


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


Shape = Callable[[list[dict[str, object]], int, str | None], object]


def hal(found: list[dict[str, object]], number: int, following: str | None) -> object:
    """https://datatracker.ietf.org/doc/html/draft-kelly-json-hal, section 6."""
    links: dict[str, object] = {"self": {"href": "/things"}}
    if following is not None:
        links["next"] = {"href": following}
    return {"_links": links, "_embedded": {"orders": found}, "shippedToday": 20}


def spring_hal(found: list[dict[str, object]], number: int, following: str | None) -> object:
    pages = {"size": SIZE, "totalElements": len(RECORDS), "totalPages": PAGES, "number": number}
    return {**dict(hal(found, number, following)), "page": pages}  # type: ignore[call-overload]


def json_api(found: list[dict[str, object]], number: int, following: str | None) -> object:
    """https://jsonapi.org/format/#fetching-pagination."""
    return {"data": found, "included": [{"id": 77}], "links": {"self": "/things", "next": following}}


def json_api_object(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {"links": {"next": {"href": following}} if following else {}, "data": found, "errors": []}


def odata(found: list[dict[str, object]], number: int, following: str | None) -> object:
    """https://docs.oasis-open.org/odata/odata-json-format/v4.01, section 4.6.5: it may be relative."""
    more = {"@odata.nextLink": following.removeprefix("/")} if following else {}
    return {"@odata.context": "$metadata#things", "@odata.count": len(RECORDS), "value": found, **more}


def odata_2(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {"d": {"results": found, **({"__next": following} if following else {})}}


def spring(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {
        "content": found, "pageable": {"pageNumber": number, "pageSize": SIZE}, "last": number == PAGES - 1,
        "totalPages": PAGES, "totalElements": len(RECORDS), "number": number, "size": SIZE,
        "first": number == 0, "sort": {"sorted": False}, "empty": not found,
    }  # fmt: skip


def spring_slice(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {"content": found, "last": number >= PAGES - 1, "number": number, "size": SIZE}


def django(found: list[dict[str, object]], number: int, following: str | None) -> object:
    url = f"http://HOST{following}" if following else None
    return {"count": len(RECORDS), "next": url, "previous": None, "results": found}


def laravel(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {
        "current_page": number + 1, "data": found, "last_page": PAGES, "links": [{"label": "Next"}],
        "next_page_url": following, "per_page": SIZE, "total": len(RECORDS),
    }  # fmt: skip


def enveloped(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {"status": "ok", "result": {"items": found, "next_page": number + 2 if following else None}}


def solr(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {
        "responseHeader": {"status": 0},
        "response": {"numFound": len(RECORDS), "start": number * SIZE, "docs": found},
    }


def algolia(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {"hits": found, "page": number, "nbPages": PAGES, "nbHits": len(RECORDS)}


def fhir(found: list[dict[str, object]], number: int, following: str | None) -> object:
    """https://hl7.org/fhir/http.html#paging; `total` may be left out."""
    links = [{"relation": "self", "url": "/things"}]
    if following is not None:
        links.append({"relation": "next", "url": f"http://HOST{following}"})
    entries = [{"fullUrl": f"/things/{each['id']}", "resource": each} for each in found]
    return {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}


def ords(found: list[dict[str, object]], number: int, following: str | None) -> object:
    """Oracle REST Data Services."""
    links = [{"rel": "self", "href": "/things"}, {"rel": "first", "href": "/things"}]
    if following is not None:
        links.append({"rel": "next", "href": f"http://HOST{following}"})
    return {
        "items": found, "hasMore": following is not None, "limit": SIZE, "offset": number * SIZE,
        "count": len(found), "links": links,
    }  # fmt: skip


def geojson(found: list[dict[str, object]], number: int, following: str | None) -> object:
    """https://docs.ogc.org/is/17-069r4/17-069r4.html, section 7.15."""
    links = [{"href": following, "rel": "next", "type": "application/geo+json"}] if following else []
    return {"type": "FeatureCollection", "features": found, "links": links, "numberMatched": len(RECORDS)}


def hydra(found: list[dict[str, object]], number: int, following: str | None) -> object:
    view = {"@id": "/things", **({"hydra:next": following} if following else {})}
    return {"hydra:member": found, "hydra:totalItems": len(RECORDS), "hydra:view": view}


def kubernetes(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {"items": found, "metadata": {"continue": f"page {number + 1}" if following else ""}}


def jira(found: list[dict[str, object]], number: int, following: str | None) -> object:
    return {"startAt": number * SIZE, "maxResults": SIZE, "total": len(RECORDS), "issues": found}


def served(api: Api, shape: Shape, **headers: str) -> None:
    """Pages of a shape, by whatever of the usual parameters asks for them."""

    def answer(request: Request) -> Response:
        args = request.args
        counted = next((args[name] for name in ("start", "startAt", "skip") if name in args), None)
        if "continue" in args:
            counted = str(SIZE * int(args["continue"].removeprefix("page ")))
        start = int(counted) if counted is not None else SIZE * asked_page(request)
        is_more = start + SIZE < len(RECORDS)
        following = f"/things?at={start + SIZE}" if is_more else None
        if "at" in args:
            start = int(args["at"])
            following = f"/things?at={start + SIZE}" if start + SIZE < len(RECORDS) else None
        body = shape(RECORDS[start : start + SIZE], start // SIZE, following)
        answered = as_json(body)
        answered.set_data(answered.get_data(as_text=True).replace("HOST", request.host))
        return answered

    def asked_page(request: Request) -> int:
        from_one = shape in (laravel, enveloped)
        return int(request.args.get("page", str(int(from_one)))) - from_one

    api.serve("/things", answer)


SHAPES: tuple[Shape, ...] = (
    hal, spring_hal, json_api, json_api_object, odata, odata_2, spring, spring_slice, django, laravel,
    enveloped, solr, algolia, jira, fhir, ords, geojson, hydra, kubernetes,
)  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape.__name__))
def test_every_record_of_every_page_comes_once(api: Api, shape: Shape) -> None:
    served(api, shape)
    found = read(api.connector(), THINGS)
    assert found.column("id").to_pylist() == [record["id"] for record in RECORDS]
    assert found.column_names == ["id", "name"]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape.__name__))
def test_one_page_is_all_and_no_other_is_asked_for(api: Api, shape: Shape) -> None:
    totals = (
        "totalPages", "last_page", "nbPages", "totalElements", "total", "count", "numFound", "nbHits",
        "numberMatched", "hydra:totalItems", "@odata.count",
    )  # fmt: skip
    only = {**dict.fromkeys(totals, 1), "last": True}

    def single(body: object) -> object:
        if not isinstance(body, dict):
            return body
        return {name: only.get(name, single(inner)) for name, inner in body.items()}

    api.serve("/things", lambda _: as_json(single(shape(RECORDS[:1], 0, None))))
    assert read(api.connector(), THINGS).num_rows == 1
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ({"_links": {"self": {"href": "/"}}, "page": {"totalElements": 0, "totalPages": 0}}, None),
        ({"_links": {"self": {"href": "/"}}, "_embedded": {"orders": []}}, None),
        ({"hits": {"total": {"value": 0, "relation": "eq"}, "hits": []}}, None),
        ({"d": {"results": []}}, None),
        ({"errors": [], "data": {"items": []}}, None),
        ({"resourceType": "Bundle", "type": "searchset", "total": 0, "link": [{"relation": "self"}]}, None),
        ({"resourceType": "Patient", "id": "7", "link": []}, "resourceType"),
        ({"id": 7, "links": [{"rel": "next", "href": "/things/8"}]}, "id"),
        ({"id": 7, "_links": {"self": {"href": "/"}}, "_embedded": {"lines": [{"n": 1}]}}, "id"),
        ({"data": {"id": 7, "items": [{"n": 1}]}}, "data"),
        ({"data": {"name": "x", "addresses": [{"n": 1}]}}, "data"),
        ({"id": 7, "errors": []}, "id"),
        ({"id": 7, "total": 250, "more": True}, "id"),
    ],
)
def test_a_single_record_and_an_empty_list_are_what_they_are(
    api: Api, body: object, columns: str | None
) -> None:
    api.serve("/things", lambda _: as_json(body))
    found = read(api.connector(), THINGS)
    assert found.num_rows == (columns is not None)
    assert columns is None or columns in found.column_names


@pytest.mark.parametrize(
    ("body", "headers", "place"),
    [
        (
            {"hits": {"total": {"value": 10_000, "relation": "gte"}, "hits": [{"_id": "1"}]}},
            {},
            "hits.total.value",
        ),
        ({"total": 250, "items": [{"id": 1}]}, {}, "total"),
        ({"data": {"total_count": "250", "items": [{"id": 1}]}}, {}, "data.total_count"),
        ([{"id": 1}], {"X-Total-Count": "250"}, "x-total-count"),
        ({"items": [{"id": 1}], "next": "eyJpZCI6MX0"}, {}, "next"),
        ({"items": [{"id": 1}], "paging": {"next": {"page": 2}}}, {}, "paging.next"),
        ({"items": [{"id": 1}], "isLast": False}, {}, "isLast"),
        ({"items": [{"id": 1}], "meta": {"totalPages": 4}}, {}, "meta.totalPages"),
        ({"hits": {"total": 250, "hits": [{"_id": "1"}]}}, {}, "hits.total"),
        (
            {"features": [{"id": 1}], "links": [{"rel": "next", "method": "POST", "href": "/"}]},
            {},
            "rel=next",
        ),
        ({"records": [{"id": 1}], "offset": "itrX/rec7"}, {}, "offset"),
        ({"values": [{"id": 1}], "isLastPage": False, "nextPageStart": 25}, {}, "isLastPage"),
        ({"result": [{"id": 1}], "result_info": {"total_pages": 3}}, {}, "result_info.total_pages"),
        ({"data": [{"id": 1}], "info": {"more_records": True, "count": 1}}, {}, "info.more_records"),
        (
            {"data": [{"id": 1}], "additional_data": {"pagination": {"more_items_in_collection": True}}},
            {},
            "more_items_in_collection",
        ),
        ({"events": [{"id": 1}], "pagination": {"has_more_items": True}}, {}, "pagination.has_more_items"),
        ({"envelopes": [{"id": 1}], "totalSetSize": "250"}, {}, "totalSetSize"),
        ({"calls": [{"id": 1}], "records": {"totalRecords": 250}}, {}, "records.totalRecords"),
        ([{"id": 1}], {"X-WP-TotalPages": "3"}, "x-wp-totalpages"),
        ([{"id": 1}], {"Content-Range": "0-0/3573458"}, "content-range"),
        ([{"id": 1}], {"X-MS-Continuation": "abc"}, "x-ms-continuation"),
    ],
)
def test_a_first_page_that_is_not_all_is_an_error_and_not_all(
    api: Api, body: object, headers: dict[str, str], place: str
) -> None:
    api.serve("/things", lambda _: as_json(body, **headers))
    with pytest.raises(SourceError) as caught:
        read(api.connector(), THINGS)
    assert (caught.value.code, place in caught.value.message) == ("pagination_unknown", True)
    assert read(api.connector(pagination="none"), THINGS).num_rows == 1


@pytest.mark.parametrize(
    ("place", "parameter"),
    [(("meta", "cursors", "after"), "after"), (("additional_data", "next_cursor"), "cursor")],
    ids=["GoCardless", "Pipedrive"],
)
def test_cursors_of_vendors(api: Api, place: tuple[str, ...], parameter: str) -> None:
    def answer(request: Request) -> Response:
        at = int(request.args.get(parameter, 0))
        said: object = str(at + SIZE) if at + SIZE < len(RECORDS) else None
        for name in reversed(place):
            said = {name: said}
        return as_json({"things": RECORDS[at : at + SIZE], **dict(said)})  # type: ignore[call-overload]

    api.serve("/things", answer)
    assert read(api.connector(), THINGS).num_rows == len(RECORDS)


def test_a_link_below_a_name_of_its_own(api: Api) -> None:
    """Front's: https://dev.frontapp.com/docs/pagination."""

    def answer(request: Request) -> Response:
        at = int(request.args.get("at", 0))
        more = f"http://{request.host}/things?at={at + SIZE}" if at + SIZE < len(RECORDS) else None
        return as_json({"_pagination": {"next": more}, "_links": {}, "_results": RECORDS[at : at + SIZE]})

    api.serve("/things", answer)
    assert read(api.connector(), THINGS).num_rows == len(RECORDS)


def test_the_page_that_a_header_names_is_asked_for(api: Api) -> None:
    """GitLab: https://docs.gitlab.com/api/rest/#other-pagination-headers."""

    def answer(request: Request) -> Response:
        page = int(request.args.get("page", "1"))
        following = str(page + 1) if page < PAGES else ""
        return as_json(RECORDS[SIZE * (page - 1) : SIZE * page], **{"X-Next-Page": following, "X-Total": "7"})

    api.serve("/things", answer)
    assert read(api.connector(), THINGS).num_rows == len(RECORDS)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"errors": [{"message": "no"}]}, "answered_errors"),
        ({"_links": {"next": {"href": "/"}}, "_embedded": {"orders": [], "people": []}}, "records_not_found"),
        ({"orders": [], "people": []}, "records_not_found"),
    ],
)
def test_what_could_mean_several_things_is_an_error(api: Api, body: object, code: str) -> None:
    api.serve("/things", lambda _: as_json(body))
    with pytest.raises(SourceError) as caught:
        read(api.connector(), THINGS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"hits": {"hits": [{"_id": "1"}] * 10}}, "a search's"),
        ({"Items": [], "LastEvaluatedKey": {"id": {"N": "7"}}}, "LastEvaluatedKey"),
    ],
    ids=["search", "empty"],
)
def test_a_page_may_not_be_all_without_a_total_or_a_record(api: Api, body: object, place: str) -> None:
    api.serve("/things", lambda _: as_json(body))
    with pytest.raises(SourceError) as caught:
        read(api.connector(), THINGS)
    assert (caught.value.code, place in caught.value.message) == ("pagination_unknown", True)


def test_a_part_is_not_all_in_any_format(api: Api) -> None:
    api.serve("/things", lambda _: Response("id\n1\n", status=206, content_type="text/csv"))
    with pytest.raises(SourceError) as caught:
        read(api.connector(format="csv"), THINGS)
    assert (caught.value.code, "206" in caught.value.message) == ("pagination_unknown", True)


def test_what_is_no_sign_of_more_is_taken_for_none(api: Api) -> None:
    headers = {"Content-Range": "bytes 0-9/100", "X-Total-Pages": "1", "X-WP-Total": "1"}
    body = {"items": [{"id": 1}], "offset": 0, "nextToken": None, "links": [{"rel": "self", "href": "/"}]}
    api.serve("/things", lambda _: as_json(body, **headers))
    assert read(api.connector(), THINGS).num_rows == 1


def test_a_bundles_last_page_may_leave_its_entries_out(api: Api) -> None:
    def answer(request: Request) -> Response:
        if "at" in request.args:
            return as_json({"resourceType": "Bundle", "type": "searchset", "link": []})
        return as_json(json.dumps(fhir(RECORDS, 0, "/things?at=7")).replace("HOST", request.host))

    api.serve("/things", answer)
    assert read(api.connector(), THINGS).num_rows == len(RECORDS)


def test_an_entry_without_a_resource_is_not_left_out_silently(api: Api) -> None:
    """A history has entries of what was deleted: https://hl7.org/fhir/http.html#history."""
    entries = [{"resource": {"id": "1"}}, {"request": {"method": "DELETE", "url": "things/2"}}]
    api.serve("/things", lambda _: as_json({"resourceType": "Bundle", "type": "history", "entry": entries}))
    with pytest.raises(SourceError) as caught:
        read(api.connector(), THINGS)
    assert caught.value.code == "records_not_found"
    assert read(api.connector(records="entry"), THINGS).num_rows == 2


def test_a_search_goes_on_behind_the_values_that_it_was_sorted_by(api: Api) -> None:
    """https://www.elastic.co/docs/reference/elasticsearch/rest-apis/paginate-search-results."""
    at = 9_007_199_254_740_993
    hits = [{"_id": str(n), "_source": {"n": n}, "sort": [at + n // 2, f"id-{n}"]} for n in range(7)]

    def answer(request: Request) -> Response:
        asked = request.get_json()
        assert request.method == "POST"
        assert asked["sort"] == [{"at": "asc"}, {"id": "asc"}]
        behind = [hit for hit in hits if "search_after" not in asked or hit["sort"] > asked["search_after"]]
        found = behind[: asked.get("size", SIZE)]
        return as_json({"hits": {"total": {"value": len(hits), "relation": "eq"}, "hits": found}})

    api.serve("/things", answer)
    pagination = {
        "type": "keyset", "field": "sort", "parameter": "search_after", "into": "body", "page_size": 3,
        "page_size_parameter": "size",
    }  # fmt: skip
    things = {"path": "/things", "method": "POST", "body": {"sort": [{"at": "asc"}, {"id": "asc"}]}}
    connector = api.connector(resources={"things": {**things, "pagination": pagination}})
    found = read(connector, Stream("things", table="things"))
    assert found.column("_id").to_pylist() == [str(n) for n in range(7)]
    pagination["into"] = "query"
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": {**things, "pagination": pagination}}),
             Stream("things", table="things"))  # fmt: skip
    assert caught.value.code == "page_position"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"timed_out": True, "_shards": {"total": 5, "successful": 5, "failed": 0}}, "it timed out"),
        ({"timed_out": False, "_shards": {"total": 5, "successful": 3, "failed": 2}}, "2 of its shards"),
    ],
    ids=["timed_out", "shards"],
)
@pytest.mark.parametrize("pagination", ["auto", "none"])
def test_a_search_that_says_that_it_is_partial_is_not_all(
    api: Api, said: dict[str, object], why: str, pagination: str
) -> None:
    hits = {"hits": {"total": {"value": 1}, "hits": [{"_id": "1"}]}}
    api.serve("/things", lambda _: as_json({**said, **hits}))
    with pytest.raises(SourceError) as caught:
        read(api.connector(pagination={"type": pagination}), THINGS)
    assert (caught.value.code, caught.value.retryable) == ("partial_search", True)
    assert why in caught.value.message


def test_a_search_that_says_that_it_is_whole_is_all(api: Api) -> None:
    hits = {"hits": {"total": {"value": 1}, "hits": [{"_id": "1"}]}}
    said = {"timed_out": False, "_shards": {"total": 5, "successful": 5, "skipped": 4, "failed": 0}}
    api.serve("/things", lambda _: as_json({**said, **hits}))
    assert read(api.connector(), THINGS).num_rows == 1


def test_the_error_of_a_search_says_what_to_write(api: Api) -> None:
    body = {"hits": {"total": {"value": 11}, "hits": [{"_id": str(n)} for n in range(10)]}}
    api.serve("/things", lambda _: as_json(body))
    with pytest.raises(SourceError) as caught:
        read(api.connector(), THINGS)
    assert "parameter: search_after, into: body" in str(caught.value.hint)
