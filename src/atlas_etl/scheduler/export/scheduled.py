"""The connectors of a project that a schedule runs, read from its definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from atlas_etl.config.definitions import load_definition
from atlas_etl.config.folder import definition_names
from atlas_etl.config.project import load_project
from atlas_etl.config.scheduling import ScheduleSettings
from atlas_etl.scheduler.export.entries import Entry


class Scheduled(Struct, frozen=True):
    """What a schedule runs, sorted by name, each under which settings, and why it does not run the others."""

    entries: tuple[Entry, ...]
    settings: Mapping[str, ScheduleSettings]
    left_out: Mapping[str, str]


def scheduled(folder: Path, environ: Mapping[str, str], names: Sequence[str] = ()) -> Scheduled:
    """The enabled connectors with a schedule, of these or of all. Raises ConfigError."""
    project = load_project(folder, environ)
    entries, settings, left_out = [], {}, {}
    for name in names or definition_names(folder):
        definition = load_definition(folder, name, environ).definition
        if not definition.enabled:
            left_out[name] = "it is disabled"
        elif definition.schedule is None:
            left_out[name] = "it has no schedule"
        else:
            timezone = definition.timezone or project.settings.timezone
            entries.append(Entry(name, definition.schedule, timezone))
            settings[name] = definition.scheduling_over(project.settings.schedule)
    return Scheduled(tuple(entries), settings, left_out)
