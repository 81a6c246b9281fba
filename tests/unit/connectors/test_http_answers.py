"""Answers that are no failure by their status and hold no records all the same, and requests led astray."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from atlas_etl.redactor import forget, learn
from tests.unit.connectors.http_api import Api, as_json, read

THINGS = Stream("things", table="things")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def refused(api: Api, *, auth: dict[str, object] | None = None, **resource: object) -> SourceError:
    described = {"path": "/things", "pagination": "none", **resource}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": described}, auth=auth or {}), THINGS)
    return caught.value


def test_records_that_are_not_there_yet_are_asked_for_again(api: Api) -> None:
    """GitHub answers so while it counts."""
    ready = [False, False, True]

    def answer(_: Request) -> Response:
        return as_json([{"id": 1}]) if ready.pop(0) else Response("{}", status=202)

    api.serve("/things", answer)
    found = read(api.connector(resources={"things": {"path": "/things"}}), THINGS)
    assert found.to_pylist() == [{"id": 1}]
    api.server.clear()
    api.serve("/things", lambda _: Response('{"status": "processing"}', status=202))
    assert refused(api).code == "http_202"


def test_a_post_that_is_accepted_may_have_its_records(api: Api) -> None:
    api.serve("/things", lambda _: Response('[{"id": 1}]', status=202))
    resource = {"path": "/things", "method": "POST", "body": {}}
    assert read(api.connector(resources={"things": resource}), THINGS).num_rows == 1


@pytest.mark.parametrize("status", [302, 304])
def test_an_answer_that_leads_nowhere_has_no_records(api: Api, status: int) -> None:
    api.serve("/things", lambda _: Response('[{"id": 1}]', status=status))
    assert refused(api).code == f"http_{status}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [('{"errors": [{"code": "X"}]}', "answered_errors"), ('{"errors": []}', None), ("{}", None)],
)
def test_an_answer_of_errors_is_no_empty_list(api: Api, answer: str, code: str | None) -> None:
    api.serve("/things", lambda _: as_json(answer))
    resource = {"records": "things", "records_may_lack": True}
    if code is None:
        described = {"things": {"path": "/things", **resource}}
        assert read(api.connector(resources=described), THINGS).num_rows == 0
    else:
        assert refused(api, **resource).code == code


@pytest.mark.parametrize("way", ["link", "redirect"])
def test_a_key_that_comes_back_in_an_address_is_sent_once(api: Api, way: str) -> None:
    def answer(request: Request) -> Response:
        query = request.query_string.decode()
        if parse_qs(query)["key"] != ["hush & key"]:
            return Response(status=400)
        if "page" in request.args:
            return as_json({"data": [{"id": 2}], "next": None})
        if way == "redirect" and request.path == "/things":
            return Response(status=307, headers={"Location": f"/there?{query}&page=2"})
        return as_json({"data": [{"id": 1}], "next": f"/things?{query}&page=2"})

    api.serve("/things", answer)
    api.serve("/there", answer)
    auth = {"type": "api_key", "api_key": "hush & key", "parameter": "key"}
    resources = {"things": {"path": "/things", "pagination": "next_url"}}
    found = read(api.connector(resources=resources, auth=auth), THINGS)
    assert found["id"].to_pylist() == ([1, 2] if way == "link" else [2])


@pytest.mark.parametrize("value", [".", "..", ""])
def test_no_value_leads_a_request_to_another_resource(api: Api, value: str) -> None:
    api.serve("/shops", lambda _: as_json([{"name": "a..b"}, {"name": value}]))
    api.serve("/shops/a..b/orders", lambda _: as_json([{"id": 1}]))
    api.serve("/orders", lambda _: as_json([{"id": 666}]))
    parent = {"resource": "shops", "fields": {"shop": "name"}}
    resources = {
        "shops": {"path": "/shops", "pagination": "none"},
        "things": {"path": "/shops/{shop}/orders", "pagination": "none", "parent": parent},
    }
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources=resources), THINGS)
    assert caught.value.code == "value_in_path"
    assert [each.path for each in api.asked] == ["/shops", "/shops/a..b/orders"]


def test_an_empty_value_at_the_end_of_a_path_asks_not_for_the_whole_list(api: Api) -> None:
    api.serve("/shops", lambda _: as_json([{"name": ""}]))
    parent = {"resource": "shops", "fields": {"shop": "name"}}
    shops = {"path": "/shops", "pagination": "none"}
    things = {"path": "/shops/{shop}", "pagination": "none", "parent": parent}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"shops": shops, "things": things}), THINGS)
    assert caught.value.code == "value_in_path"


@pytest.mark.parametrize(
    "challenge", ['Digest realm="things"', 'Digest nonce="n"', 'Digest realm="r", nonce="n", algorithm=NEW']
)
def test_a_challenge_that_cannot_be_answered_is_a_refusal(api: Api, challenge: str) -> None:
    api.serve("/things", lambda _: Response(status=401, headers={"WWW-Authenticate": challenge}))
    auth: dict[str, object] = {"type": "digest", "username": "etl", "password": "hush"}
    assert refused(api, auth=auth).code == "http_401"


SAID = {
    "github": {"message": "Bad credentials", "documentation_url": "https://docs.github.com"},
    "stripe": {"error": {"type": "invalid_request_error", "message": "Bad credentials"}},
    "square": {"errors": [{"category": "API_ERROR", "code": "X", "detail": "Bad credentials"}]},
    "quickbooks": {"Fault": {"Error": [{"Message": "Bad credentials", "code": "4000"}], "type": "X"}},
    "quickbooks, too": {"fault": {"error": [{"message": "Bad credentials"}]}},
    "shopify": {"errors": "Bad credentials"},
    "salesforce": [{"message": "Bad credentials", "errorCode": "MALFORMED_QUERY"}],
    "frappe": {"exc_type": "X", "exception": "Bad credentials"},
    "problem": {"type": "about:blank", "title": "Bad", "detail": "Bad credentials"},
    "two lines": {"message": "Bad credentials\nat line 1"},
}


@pytest.mark.parametrize("shape", SAID)
def test_what_a_refusal_says_is_told(api: Api, shape: str) -> None:
    api.serve("/things", lambda _: Response(json.dumps(SAID[shape]), status=400))
    failure = refused(api)
    assert failure.message.endswith("/things was answered with 400: Bad credentials")
    assert failure.hint == "see what the API says, and its documentation"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"message": "no account 4711 of \'Jane Doe\' <jane@x.org>"}', ": no account ... of ... ..."),
        ('{"password": "hush-hush"}', ""),
        ('{"errors": {"email": ["jane@x.org is taken"]}}', ""),
        ('{"message": ""}', ""),
        ('{"message": 5, "error": null, "errors": []}', ""),
        ('{"message": "half', ""),
        ("<html>hush-hush</html>", ""),
        ('{"error":' * 9 + '{"message": "deep"}' + "}" * 9, ""),
        ('{"message": "' + "x" * 70_000 + '"}', ""),
        ("", ""),
    ],
)
def test_what_may_be_a_value_in_a_refusal_is_not_told(api: Api, body: str, told: str) -> None:
    api.serve("/things", lambda _: Response(body, status=400))
    assert refused(api).message.endswith(f"/things was answered with 400{told}")


def test_a_secret_is_masked_before_a_long_message_is_cut(api: Api) -> None:
    secret = "hunterpassword"
    learn([secret])
    try:
        for before in range(180, 200):
            message = ("bad " * 50)[: before - 1] + f" {secret} and more"
            api.server.clear()
            api.serve("/things", lambda _, said=message: Response(json.dumps({"message": said}), status=400))
            assert "hunt" not in refused(api).message
    finally:
        forget()


def test_nothing_is_told_of_what_a_login_answers(api: Api) -> None:
    api.serve("/token", lambda _: Response('{"message": "wrong secret hush-hush"}', status=503))
    token_url = api.server.url_for("/token")
    grant = {"client_id": "id", "client_secret": "hush-hush"}
    failure = refused(api, auth={"type": "oauth2", "token_url": token_url, **grant})
    assert failure.message.endswith("/token was answered with 503")


def test_a_token_endpoint_that_says_200_and_means_no_is_quoted(api: Api) -> None:
    api.serve("/token", lambda _: as_json({"error": "invalid_scope", "error_description": "hush-secret"}))
    token_url = api.server.url_for("/token")
    grant = {"client_id": "id", "client_secret": "hush-secret"}
    failure = refused(api, auth={"type": "oauth2", "token_url": token_url, **grant})
    assert failure.code == "login_failed"
    assert "200 without a token (invalid_scope)" in failure.message
    assert "hush" not in str(failure)


@pytest.mark.parametrize("status", [302, 307])
def test_a_login_that_leads_elsewhere_is_told_as_that(api: Api, status: int) -> None:
    api.serve("/login", lambda _: Response(status=status, headers={"Location": "/v2/login"}))
    auth = {"type": "session", "login_path": "/login", "login_body": {"user": "u"}, "login_token": "token"}
    failure = refused(api, auth=auth)
    assert failure.code == "login_failed"
    assert failure.hint == "set `login_path` under `auth` to where it leads"


def test_text_around_the_children_of_an_element_is_kept(api: Api) -> None:
    answer = "<r><x>a<b>1</b>c<b>2</b>d</x><x><b>3</b>\n</x></r>"
    api.serve("/things", lambda _: Response(answer, content_type="application/xml"))
    resource = {"path": "/things", "format": "xml", "pagination": "none"}
    found = read(api.connector(resources={"things": resource}), THINGS).to_pylist()
    assert [record["#text"] for record in found] == ["acd", None]


def test_attributes_and_elements_of_one_name_in_two_namespaces_are_lists(api: Api) -> None:
    text = '<a xmlns:x="u:x" xmlns:y="u:y"><r x:k="1" y:k="2"><x:v>3</x:v><y:v>4</y:v></r></a>'
    api.serve("/things", lambda _: Response(text, content_type="application/xml"))
    resource = {"path": "/things", "format": "xml", "pagination": "none"}
    found = read(api.connector(resources={"things": resource}), THINGS).to_pylist()
    assert found == [{"@k": "[1,2]", "v": "[3,4]"}]
