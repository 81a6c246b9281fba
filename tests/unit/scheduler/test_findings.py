"""What the answer of a test's process is taken for."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from atlas_etl.model import RunError
from atlas_etl.scheduler.findings import finding
from tests.unit.scheduler.world import FAILURE, SUCCESS


def test_a_success() -> None:
    test = finding("shop", *SUCCESS, timed_out=None)
    assert (test.error, test.message, test.server_version, test.warnings) == (None, "there", "7", ())


def test_a_failure() -> None:
    assert finding("shop", *FAILURE, timed_out=None).error == RunError("source", "gone", "look")


def test_a_project_that_is_wrong() -> None:
    error = {"code": "config", "message": "atlas.yaml: no", "hint": None, "connector": None, "stream": None}
    found = finding("shop", 2, json.dumps({"error": error}).encode(), timed_out=None).error
    assert found == RunError("config", "atlas.yaml: no", None)


def test_a_process_that_was_killed_or_took_too_long() -> None:
    killed = finding("shop", -11, b"", timed_out=None).error
    assert killed is not None
    assert (killed.code, killed.message) == ("killed", "the test's process was ended by SIGSEGV")
    late = finding("shop", -9, SUCCESS[1], timed_out=timedelta(seconds=60)).error
    assert late is not None
    assert (late.code, late.message) == ("timeout", "the test did not end within 60 s")


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"\xff", b"[]", b"{}", b"null", b"{", SUCCESS[1][:-9]),
        *(b'{"results": []}', b'{"results": [{}]}', b'{"results": [7]}', b'{"results": {"a": 1}}'),
        *(b'{"error": {}}', b'{"error": null}'),
    ],
)
def test_an_answer_that_is_none(answer: bytes) -> None:
    found = finding("shop", 1, answer, timed_out=None).error
    assert found is not None
    assert (found.code, found.message) == (
        "no_answer",
        "the test's process ended with exit code 1 and told nothing",
    )
