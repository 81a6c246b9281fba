"""Waits of connectors, as the command line shows them."""

from __future__ import annotations

import json
import logging

import pytest

from atlas_etl.cli.output import LogFormat, Output
from atlas_etl.connectors.waits import NAME, tell

WHY = "GET http://api.example.com/things was answered with 429 (try 1 of 5)"


@pytest.fixture(autouse=True)
def no_settings_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler())
    monkeypatch.setattr(logging.getLogger(NAME), "handlers", [])


def test_a_wait_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    for _ in range(2):  # as a process does, for its options and before them
        output.configure(as_json=True)
    tell(4.9, WHY)
    tell(65, WHY)
    tell(125, WHY)
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err == f"{WHY}: waiting for 65 s\n{WHY}: waiting for 2 min 5 s\n"


def test_a_quiet_process_says_nothing_of_waits(capsys: pytest.CaptureFixture[str]) -> None:
    Output().configure(quiet=True)
    tell(65, WHY)
    assert capsys.readouterr() == ("", "")


def test_a_log_for_machines_has_waits_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    Output().configure(log_format=LogFormat.JSON)
    tell(65, WHY)
    assert json.loads(capsys.readouterr().err)["message"] == f"{WHY}: waiting for 65 s"
