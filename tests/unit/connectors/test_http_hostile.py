"""Answers of an API that wants harm: each is refused with its reason."""

from __future__ import annotations

import pytest

from atlas_etl.connectors.http._formats import FORMATS
from atlas_etl.errors import SourceError

BILLION_LAUGHS = b'<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'
OUTSIDE = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


@pytest.mark.parametrize(
    ("form", "content", "code", "why"),
    [
        ("xml", b"<a>" * 10_000 + b"</a>" * 10_000, "malformed_xml", "nested too deeply"),
        ("xml", BILLION_LAUGHS, "malformed_xml", "EntitiesForbidden"),
        ("xml", OUTSIDE, "malformed_xml", "EntitiesForbidden"),
        ("json", b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "malformed_json", "nested too deeply"),
        ("jsonl", b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n", "malformed_json", "nested too deeply"),
        ("json", b'{"data":[{"a":NaN}]}', "malformed_json", "invalid character"),
    ],
)
def test_an_answer_that_wants_harm(form: str, content: bytes, code: str, why: str) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        FORMATS[form](None).read(content, "GET /x")
    assert caught.value.code == code
