"""The charsets of answers: the one that the header names, the one that is set, and bytes that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Response

from atlas_etl.connectors.http._messages import Response as Answer
from atlas_etl.connectors.http._network.charsets import text_of
from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, read, rows, sync

THINGS = Stream("things", table="things")
NAME = "Zoë Müller"
TEXTS = {
    "csv": f"id,name\n1,{NAME}\n",
    "json": f'[{{"id": 1, "name": "{NAME}"}}]',
    "jsonl": f'{{"id": 1, "name": "{NAME}"}}\n',
    "xml": f"<all><thing><id>1</id><name>{NAME}</name></thing></all>",
}


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def described(form: str, **resource: object) -> dict[str, object]:
    return {"things": {"path": "/things", "format": form, "pagination": "none", **resource}}


def names(api: Api, form: str, content: bytes, content_type: str, **resource: object) -> list[object]:
    api.serve("/things", lambda _: Response(content, content_type=content_type))
    found = read(api.connector(resources=described(form, **resource)), THINGS)
    return list(found.column("name").to_pylist())


def refused(api: Api, form: str, content: bytes, content_type: str, **resource: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        names(api, form, content, content_type, **resource)
    assert len(api.asked) == 1
    return caught.value


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize(
    "charset", ["iso-8859-1", "windows-1252", "UTF-16", '"utf-16le"', "utf-8", '"UTF-8"; header=present']
)
def test_the_charset_that_the_header_names(api: Api, form: str, charset: str) -> None:
    content = TEXTS[form].encode(charset.partition(";")[0].strip('"'))
    assert names(api, form, content, f"text/plain; charset={charset}") == [NAME]


def test_a_latin_1_answer_arrives_in_the_table(api: Api, tmp_path: Path) -> None:
    content = TEXTS["csv"].encode("latin-1")
    api.serve("/things", lambda _: Response(content, content_type="text/csv; charset=ISO-8859-1"))
    sync(api.connector(resources=described("csv")), tmp_path, THINGS)
    assert rows(tmp_path, "SELECT id, name FROM api.things") == [(1, NAME)]


def test_latin_1_is_what_browsers_take_it_for(api: Api) -> None:
    """Whose printable characters Windows has where latin-1 has none."""
    assert names(api, "csv", b"name\n5 \x80\n", "text/csv; charset=iso-8859-1") == ["5 €"]
    api.server.clear()
    assert names(api, "csv", b"name\n5 \x80\n", "text/csv", encoding="latin-1") == ["5 \x80"]


@pytest.mark.parametrize("charset", ["iso-8859-1", "klingon"])
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_that_is_utf_8_is_read_so_whatever_the_header_says(api: Api, form: str, charset: str) -> None:
    assert names(api, form, TEXTS[form].encode(), f"application/json; charset={charset}") == [NAME]


def test_csv_that_contradicts_its_header_is_refused_until_it_is_said_what_it_is(api: Api) -> None:
    content, content_type = TEXTS["csv"].encode(), "text/csv; charset=iso-8859-1"
    failure = refused(api, "csv", content, content_type)
    assert (failure.code, failure.hint) == (
        "charset_in_doubt",
        "look at it, and set `encoding` of the resource to `utf-8` or `cp1252`",
    )
    api.server.clear()
    assert names(api, "csv", content, content_type, encoding="utf-8") == [NAME]
    api.server.clear()
    assert names(api, "csv", content, content_type, encoding="cp1252") == [content.decode("cp1252")[10:-1]]


@pytest.mark.parametrize("declared", ["windows-1252", "iso-8859-1", "utf-16", "Shift_JIS"])
@pytest.mark.parametrize("content_type", ["text/xml", "text/xml; charset=utf-8"])
def test_xml_is_read_as_it_declares(api: Api, declared: str, content_type: str) -> None:
    name = "山田" if declared == "Shift_JIS" else NAME
    content = f"<?xml version='1.0' encoding='{declared}'?>{TEXTS['xml'].replace(NAME, name)}"
    assert names(api, "xml", content.encode(declared), content_type) == [name]


@pytest.mark.parametrize("declared", ["", "<?xml version='1.0' encoding='UTF-8'?>"])
def test_the_header_tells_where_xml_is_not_what_it_says(api: Api, declared: str) -> None:
    content = (declared + TEXTS["xml"]).encode("cp1252")
    assert names(api, "xml", content, "text/xml; charset=windows-1252") == [NAME]


@pytest.mark.parametrize(
    ("declared", "content_type"),
    [("utf-16", "text/xml"), ("UTF-16", "text/xml; charset=utf-16"), ("latin-1", "text/xml; charset=utf-8")],
)
def test_xml_that_was_converted_to_utf_8_declares_what_it_was(
    api: Api, declared: str, content_type: str
) -> None:
    content = f"<?xml version='1.0' encoding='{declared}'?>{TEXTS['xml']}".encode()
    assert names(api, "xml", content, content_type) == [NAME]


@pytest.mark.parametrize(
    ("declared", "code"), [("iso-8859-1", "charset_in_doubt"), ("klingon", "unknown_charset")]
)
def test_xml_that_contradicts_itself_is_refused_until_it_is_said_what_it_is(
    api: Api, declared: str, code: str
) -> None:
    content = f"<?xml version='1.0' encoding='{declared}'?>{TEXTS['xml']}".encode()
    assert refused(api, "xml", content, "text/xml").code == code
    api.server.clear()
    assert names(api, "xml", content, "text/xml", encoding="utf-8") == [NAME]


def test_xml_of_which_header_and_declaration_name_other_letters(api: Api) -> None:
    content = f"<?xml version='1.0' encoding='windows-1251'?>{TEXTS['xml']}".encode("cp1252")
    failure = refused(api, "xml", content, "text/xml; charset=windows-1252")
    assert failure.code == "charset_in_doubt"
    assert failure.hint is not None
    assert "`cp1251` or `cp1252`" in failure.hint
    api.server.clear()
    assert names(api, "xml", content, "text/xml", encoding="cp1252") == [NAME]


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("charset", ["klingon", "binary", '"utf8; foo"', "utf8mb4", "'utf-8'", "latin-1"])
def test_no_letter_of_ascii_is_in_doubt(api: Api, form: str, charset: str) -> None:
    content = TEXTS[form].replace(NAME, "Zoe").encode()
    assert names(api, form, content, f"text/plain; charset={charset}") == ["Zoe"]


@pytest.mark.parametrize("charset", ["utf8mb4", "utf8mb3", "'utf-8'"])
def test_utf_8_by_other_names(api: Api, charset: str) -> None:
    assert names(api, "csv", TEXTS["csv"].encode(), f"text/csv; charset={charset}") == [NAME]


def test_ascii_that_is_called_utf_16_is_not_read_so(api: Api) -> None:
    """Its rows would be one line of letters that nobody wrote: a header, and no rows."""
    failure = refused(api, "csv", b"id,name\n1,x\n", "text/csv; charset=utf-16")
    assert failure.code == "charset_in_doubt"


@pytest.mark.parametrize("charset", ["klingon", "base64", "x" * 100, "a\x01b"])
def test_a_charset_that_nobody_knows(api: Api, charset: str) -> None:
    failure = refused(api, "csv", TEXTS["csv"].encode(), f"text/csv; charset={charset}")
    assert failure.code == "unknown_charset"
    assert len(failure.message) < 140


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize(
    ("content_type", "told"), [("text/plain", True), ("text/plain; charset=utf-8", False)]
)
def test_bytes_that_are_no_text_in_their_charset(
    api: Api, form: str, content_type: str, *, told: bool
) -> None:
    failure = refused(api, form, TEXTS[form].encode("latin-1"), content_type)
    assert (failure.code, failure.retryable) == ("invalid_text", False)
    assert ("without a charset in its Content-Type" in failure.message) is told
    assert failure.hint is not None
    assert "`encoding`" in failure.hint


@pytest.mark.parametrize("form", TEXTS)
def test_what_ends_within_a_character_is_read_again(form: str) -> None:
    content = TEXTS[form].encode()
    cut = content[: content.index("ë".encode()) + 1]
    with pytest.raises(SourceError) as caught:
        text_of(Answer(200, {}, cut, ""), "GET /x", form=form, encoding=None)
    assert caught.value.retryable


@pytest.mark.parametrize("name", ["klingon", "hex", ""])
def test_an_encoding_that_is_none_is_refused_before_anything_is_asked(api: Api, name: str) -> None:
    with pytest.raises(ValidationError, match="there is no encoding"):
        api.connector(resources=described("csv", encoding=name))
