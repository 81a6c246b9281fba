"""What there is to schedule: definitions read into timings and rules, again where their files changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from atlas_etl.config.definitions import load_definition
from atlas_etl.config.folder import definition_names
from atlas_etl.config.project import Project, load_project
from atlas_etl.config.project_folder import DEFINITIONS, PROJECT_FILE
from atlas_etl.config.scheduling import ConnectorScheduling, ScheduleSettings
from atlas_etl.errors import ConfigError
from atlas_etl.model import BreakerPolicy
from atlas_etl.scheduler.due import Timing
from atlas_etl.scheduler.retries import RetryRule

Fingerprint = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One enabled connector with a schedule: when it runs and under which rules."""

    timing: Timing
    timeout: timedelta | None
    retry: RetryRule
    breaker: BreakerPolicy


@dataclass(frozen=True, slots=True)
class Agenda:
    """All of a project's scheduled connectors, as its files said when they were last right.

    `problems` are the definitions that are wrong now; where an earlier reading was right, it still holds.
    """

    project: Project
    scheduled: Mapping[str, Scheduled]
    problems: tuple[ConfigError, ...]
    files: Fingerprint

    @property
    def settings(self) -> ScheduleSettings:
        return self.project.settings.schedule


def read_agenda(
    folder: Path, environ: Mapping[str, str], before: Agenda | None = None, *, all_again: bool = True
) -> Agenda:
    """The agenda as the files are now. A definition that is wrong keeps what it was before.

    Without `all_again`, a file that looks as it did is not read, as long as atlas.yaml does, too. Raises
    ConfigError where atlas.yaml is wrong and there was no agenda before it.
    """
    files = fingerprint(folder)
    try:
        project = load_project(folder, environ)
        names = definition_names(folder)
    except ConfigError as wrong:
        if before is None:
            raise
        return replace(before, problems=(wrong,), files=files)
    kept = _unchanged(before, files) if before is not None and not all_again else frozenset()
    scheduled: dict[str, Scheduled] = {}
    problems: list[ConfigError] = []
    for name in names:
        try:
            if name in kept:
                found = before.scheduled.get(name) if before else None
            else:
                found = _scheduled(project, name, environ)
        except ConfigError as wrong:
            problems.append(wrong)
            found = before.scheduled.get(name) if before else None
        if found is not None:
            scheduled[name] = found
    return Agenda(project, scheduled, tuple(problems), files)


def _unchanged(before: Agenda, files: Fingerprint) -> frozenset[str]:
    """The connectors of which nothing can have changed, as far as files tell."""
    same = {Path(file).stem for file, look in files.items() if before.files.get(file) == look}
    other = {Path(file).stem for file, look in files.items() if before.files.get(file) != look}
    project = before.project.folder / PROJECT_FILE
    if files.get(str(project)) != before.files.get(str(project)):
        return frozenset()
    wrong = {problem.connector for problem in before.problems}
    return frozenset() if None in wrong else frozenset(same - other) - wrong


def of_connectors(agenda: Agenda, names: Collection[str]) -> Agenda:
    """The part of the agenda that is about these connectors."""
    return replace(
        agenda,
        scheduled={name: each for name, each in agenda.scheduled.items() if name in names},
        problems=tuple(wrong for wrong in agenda.problems if wrong.connector in names),
    )


def fingerprint(folder: Path) -> Fingerprint:
    """Which files say what is scheduled, and how they look from outside; cheap enough to ask often."""
    found: dict[str, tuple[int, int, int]] = {}
    try:
        beside = [folder / PROJECT_FILE, *(folder / DEFINITIONS).iterdir()]
    except OSError:
        beside = [folder / PROJECT_FILE]
    for path in beside:
        try:
            seen = path.stat()
        except OSError:
            continue
        found[str(path)] = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
    return found


def _scheduled(project: Project, name: str, environ: Mapping[str, str]) -> Scheduled | None:
    definition = load_definition(project.folder, name, environ).definition
    if definition.schedule is None or not definition.enabled:
        return None
    settings = (definition.scheduling or ConnectorScheduling()).over(project.settings.schedule)
    timing = Timing(
        name,
        definition.schedule,
        definition.timezone or project.settings.timezone,
        settings.catch_up,
        settings.catch_up_window,
        settings.jitter,
    )
    retry = RetryRule(settings.retries, settings.retry_wait, settings.longest_retry_wait)
    breaker = BreakerPolicy(settings.breaker.failures, settings.breaker.cooldown)
    return Scheduled(timing, settings.timeout, retry, breaker)
