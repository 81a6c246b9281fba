"""Celery: a module for its beat and its workers, which reads the schedules when it starts.

Their environments need `atlas-etl[celery]` installed; the runs are made by the command named here.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas_etl.scheduler.export.entries import Export

FILE = "atlas_celery.py"


def export(of: Export) -> Mapping[str, str]:
    """The module. Definitions that change count when beat is started again."""
    text = f'''\
"""Atlas's schedules for Celery, whose broker is CELERY_BROKER_URL:

celery -A atlas_celery beat
celery -A atlas_celery worker
"""

from atlas_etl.scheduler.celery_app import app, beat_schedule

app.conf.beat_schedule = beat_schedule(
    {str(of.installation.folder)!r},
    connectors={tuple(of.chosen)!r},  # none: all that have a schedule
    command={of.installation.command!r},
)
'''
    return {FILE: text}
