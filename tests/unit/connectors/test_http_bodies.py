"""Answers in all the shapes that servers give them: whole, or an error, and never a part."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pyarrow as pa
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, read

THINGS = Stream("things", path="things")
FIRST = b'[{"id": 1, "name": "' + bytes(range(97, 123)) * 9 + b'"}, '
SECOND = b'{"id": 2, "name": "' + bytes(range(65, 91)) * 9 + b'"}]'
BODY = FIRST + SECOND
PADDING = b"\0" * 70


def raw(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


def zstd(body: bytes) -> bytes:
    return bytes(pa.compress(body, codec="zstd", asbytes=True))


WAYS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw),
    "zstd": ("zstd", zstd),
}


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def ids_of(api: Api, encoding: str, body: bytes) -> list[int]:
    api.server.clear()
    api.asked.clear()
    api.serve("/things", lambda _: Response(body, headers={"Content-Encoding": encoding}))
    found: list[int] = read(api.connector(attempts=2, pagination="none"), THINGS).column("id").to_pylist()
    return found


def refusal_of(api: Api, encoding: str, body: bytes) -> SourceError:
    with pytest.raises(SourceError) as caught:
        ids_of(api, encoding, body)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
def test_several_members_are_one_body(api: Api, way: str) -> None:
    encoding, packed = WAYS[way]
    assert ids_of(api, encoding, packed(FIRST) + packed(SECOND)) == [1, 2]


@pytest.mark.parametrize("way", WAYS)
def test_a_last_member_that_is_cut_off_is_an_error(api: Api, way: str) -> None:
    encoding, packed = WAYS[way]
    for body in (packed(BODY), packed(BODY) + packed(b"  ")):
        for missing in (1, 3, 6):
            failure = refusal_of(api, encoding, body[:-missing])
            assert (failure.code, failure.retryable, len(api.asked)) == ("incomplete", True, 2)


@pytest.mark.parametrize("way", ["gzip", "deflate", "deflate without a header"])
def test_zeros_behind_the_end_are_padding(api: Api, way: str) -> None:
    """So says gzip's manual, and browsers, curl and requests pass over them as well."""
    encoding, packed = WAYS[way]
    assert ids_of(api, encoding, packed(FIRST) + packed(SECOND) + PADDING) == [1, 2]


@pytest.mark.parametrize(
    "behind",
    [b"<!-- proxy -->", PADDING + b"x", PADDING + gzip.compress(b" ")],
    ids=["text", "padding and text", "padding and a member"],
)
@pytest.mark.parametrize("way", WAYS)
def test_anything_else_behind_the_end_is_an_error(api: Api, way: str, behind: bytes) -> None:
    encoding, packed = WAYS[way]
    assert refusal_of(api, encoding, packed(BODY) + behind).code == "incomplete"


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, br"])
def test_an_encoding_that_nobody_asked_for_is_told_at_once(api: Api, encoding: str) -> None:
    failure = refusal_of(api, encoding, b"\x8b\x01\x80[1]\x03")
    assert (failure.code, failure.retryable, len(api.asked)) == ("unknown_encoding", False, 1)
    assert encoding.rsplit(maxsplit=1)[-1] in failure.message
    assert "gzip, deflate, zstd" in str(failure.hint)
    assert "br" not in api.asked[0].headers["Accept-Encoding"]


@pytest.mark.parametrize("encoding", ["identity", "none", "UTF-8", ""])
def test_what_is_called_encoded_and_is_not_arrives_as_it_is(api: Api, encoding: str) -> None:
    assert ids_of(api, encoding, BODY) == [1, 2]


@pytest.mark.parametrize("between", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "pipe"])
def test_the_header_of_csv_shows_what_is_between_columns(api: Api, between: str) -> None:
    lines = ["id|name", '1|"x\ny"', f'2|"a{between}b"']
    body = "\n".join(line.replace("|", between) for line in lines)
    api.serve("/things", lambda _: Response(body, content_type="text/csv"))
    found = read(api.connector(format="csv", pagination="none"), THINGS).to_pylist()
    assert found == [{"id": 1, "name": "x\ny"}, {"id": 2, "name": f"a{between}b"}]
