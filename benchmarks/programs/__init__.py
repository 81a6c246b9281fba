"""Programs that are measured, each a file that stands alone: it imports nothing of ours.

`program` makes the command; what the program needs to know comes as JSON in the environment, because there
are passwords in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.ends import Setting
from benchmarks.measure import Command

_HERE = Path(__file__).resolve().parent


def program(name: str, setting: Setting, *, python: str = sys.executable, **more: object) -> Command:
    """`programs/NAME.py` for one load, run by this Python."""
    told = {
        "source": dict(setting.source.connection),
        "destination": dict(setting.destination.connection),
        "table": setting.table.name,
        "key": setting.table.key,
        "cursor": setting.table.cursor,
        "rows": setting.rows,
        **more,
    }
    return Command((python, str(_HERE / f"{name}.py")), setting.folder, {"BENCHMARK": json.dumps(told)})
