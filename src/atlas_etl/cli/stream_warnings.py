"""What a person should know of one stream's run, beside what it did: in sentences."""

from __future__ import annotations

from atlas_etl.cli.quantities import counted
from atlas_etl.model import StreamRun


def stream_warnings(outcome: StreamRun) -> list[str]:
    """What the run itself warned of, and how many rows the table left out."""
    return [*outcome.warnings, *([_left_out(outcome)] if outcome.rows_left_out else [])]


def _left_out(outcome: StreamRun) -> str:
    left_out, read = f"{outcome.rows_left_out:,}", counted(outcome.rows_read, "row")
    return (
        f"the table {outcome.table} left out {left_out} of {read}, without an error: a trigger or a rule of "
        "its own filters them, or puts them elsewhere; if that is not wished, drop it and load them again "
        "(--full-refresh); `atlas connector verify` shows what is missing"
    )
