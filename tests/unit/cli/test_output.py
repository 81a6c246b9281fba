"""What `-q` leaves of what is said."""

from __future__ import annotations

import logging

import pytest

from atlas_etl.cli.output import Output


@pytest.mark.parametrize(("quiet", "told"), [(True, "an error\n"), (False, "a warning\nan error\n")])
def test_only_errors_are_written_where_it_is_to_be_quiet(
    quiet: bool, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Output().configure(quiet=quiet)
    assert logging.lastResort is not None
    for level, text in ((logging.WARNING, "a warning"), (logging.ERROR, "an error")):
        record = logging.LogRecord("a.library", level, __file__, 1, text, None, None)
        if level >= logging.lastResort.level:
            logging.lastResort.handle(record)
    assert capsys.readouterr().err == told
    Output()  # the handler is the process's
