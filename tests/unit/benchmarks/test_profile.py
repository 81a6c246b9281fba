"""Whose time a look at the process counts for."""

from __future__ import annotations

import pytest
from benchmarks.profile import IMPORTS, OTHERS, shares


def test_a_look_counts_for_the_file_of_ours_that_was_called_last():
    looks = [
        "thread (7): Main;main (atlas_etl/cli/app.py:1);read (atlas_etl/a/b.py:2);take (numpy/core.so) 6",
        "thread (7): Main;main (atlas_etl/cli/app.py:1);_find_and_load (importlib:3);x (pyarrow/lib.so) 3",
        "thread (8): io;recv (libc.so.6) 1",
    ]
    assert shares(looks) == [
        ("a/b.py", pytest.approx(0.6)),
        (IMPORTS, pytest.approx(0.3)),
        (OTHERS, pytest.approx(0.1)),
    ]
