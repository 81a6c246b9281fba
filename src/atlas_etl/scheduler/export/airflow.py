"""Airflow: a file for its DAG folder, which makes the DAGs from the definitions each time it is read.

Airflow's environment needs Atlas installed, for `build_dags`; the runs are made by the command named here.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas_etl.scheduler.export.calendars import calendars, expression
from atlas_etl.scheduler.export.entries import Export

FILE = "atlas_dags.py"


def export(of: Export) -> Mapping[str, str]:
    """The file. Schedules that Airflow cannot keep are refused now, and not when it reads the file."""
    for entry in of.entries:
        found = calendars(entry.schedule, entry.timezone)
        if isinstance(found, tuple):
            for calendar in found:
                expression(calendar, entry, stars_need_both=False)
    text = f'''\
"""Atlas's schedules as Airflow DAGs; copy it into the DAG folder."""

from atlas_etl.scheduler.airflow import build_dags

globals().update(
    build_dags(
        {str(of.installation.folder)!r},
        connectors={tuple(of.chosen)!r},  # none: all that have a schedule
        command={of.installation.command!r},
    )
)
'''
    return {FILE: text}
