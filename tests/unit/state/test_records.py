"""Run ids, and how exceptions become history."""

from __future__ import annotations

import time
import uuid

import pytest

from atlas_etl.errors import AtlasError, DataError, InterruptedRunError
from atlas_etl.model import RunStatus
from atlas_etl.state.records import ending_of, new_run_id


def test_run_ids_are_uuids_of_version_7_with_their_time() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_run_id() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 1_000
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
    assert [text[:13] for text in made] == sorted(text[:13] for text in made)


@pytest.mark.parametrize(
    ("error", "status", "exit_code"),
    [
        (DataError("a rule", code="broken"), RunStatus.FAILED, 7),
        (AtlasError("ours"), RunStatus.FAILED, 1),
        (ValueError("secret"), RunStatus.FAILED, 1),
        (InterruptedRunError("SIGTERM"), RunStatus.INTERRUPTED, 130),
        (KeyboardInterrupt(), RunStatus.INTERRUPTED, 130),
        (GeneratorExit(), RunStatus.INTERRUPTED, 130),
        (None, RunStatus.INTERRUPTED, 130),
    ],
)
def test_how_a_run_ends(error: BaseException | None, status: RunStatus, exit_code: int) -> None:
    ended, recorded = ending_of(error)
    assert (ended, recorded.exit_code) == (status, exit_code)
    assert "secret" not in str(recorded)
