"""What there is to run and to test: definitions read into timings and rules, again where files changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.config.definitions import load_definition
from atlas_etl.config.folder import definition_names
from atlas_etl.config.project import Project, load_project
from atlas_etl.config.project_folder import DEFINITIONS, PROJECT_FILE
from atlas_etl.config.schedule import NEVER, CatchUp, Every, parse_schedule
from atlas_etl.config.scheduling import ScheduleSettings
from atlas_etl.errors import ConfigError
from atlas_etl.model import BreakerPolicy
from atlas_etl.scheduler.due import Timing
from atlas_etl.scheduler.retries import RetryRule

_WIDEST_SPREAD = timedelta(minutes=15)  # of tests by interval, so that not all connectors have theirs at once
_TEST_WINDOW = timedelta(days=366)  # so that every connector that was never tested is, at once

Fingerprint = Mapping[str, tuple[int, int, int, int]]


class Scheduled(Struct, frozen=True):
    """One enabled connector with a schedule: when it runs and under which rules."""

    timing: Timing
    timeout: timedelta | None
    retry: RetryRule
    breaker: BreakerPolicy


class Tested(Struct, frozen=True):
    """One enabled connector whose connection is tested: when, and how long that may take."""

    timing: Timing
    timeout: timedelta


class Agenda(Struct, frozen=True):
    """All of a project's connectors that are run or tested, as its files said when they were last right.

    `known` are all connectors, also those that are disabled. `problems` are the definitions that are wrong
    now; where an earlier reading was right, its schedule still holds, and its runs are `held`.
    """

    project: Project
    scheduled: Mapping[str, Scheduled]
    tested: Mapping[str, Tested]
    known: frozenset[str]
    problems: tuple[ConfigError, ...]
    files: Fingerprint

    @property
    def settings(self) -> ScheduleSettings:
        return self.project.settings.schedule

    @property
    def held(self) -> Collection[str]:
        """The scheduled connectors of which no run can begin: it would read what is wrong."""
        wrong = {problem.connector for problem in self.problems}
        return {name for name in self.scheduled if name in wrong or None in wrong}

    def gone_from(self, known: Collection[str], *, still: Collection[str]) -> Collection[str]:
        """Of the connectors that a store knows those that are not among `still`, if the files can be trusted.

        A definition that is wrong, or atlas.yaml, may be right again in a moment.
        """
        wrong = {problem.connector for problem in self.problems}
        return set() if None in wrong else set(known) - set(still) - wrong


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
    found: dict[str, _Rules] = {}
    problems: list[ConfigError] = []
    for name in names:
        earlier = _rules_before(before, name)
        try:
            found[name] = earlier if name in kept else _rules(project, name, environ)
        except ConfigError as wrong:
            problems.append(wrong)
            found[name] = earlier
    scheduled = {name: rules.scheduled for name, rules in found.items() if rules.scheduled is not None}
    tested = {name: rules.tested for name, rules in found.items() if rules.tested is not None}
    return Agenda(project, scheduled, tested, frozenset(names), tuple(problems), files)


def _unchanged(before: Agenda, files: Fingerprint) -> frozenset[str]:
    """The connectors of which nothing can have changed, as far as files tell."""
    same = {Path(file).stem for file, look in files.items() if before.files.get(file) == look}
    other = {Path(file).stem for file, look in files.items() if before.files.get(file) != look}
    project = before.project.folder / PROJECT_FILE
    if files.get(str(project)) != before.files.get(str(project)):
        return frozenset()
    wrong = {problem.connector for problem in before.problems}
    return frozenset() if None in wrong else frozenset(same - other) - wrong


def changed_names(before: Agenda, after: Agenda) -> frozenset[str]:
    """The connectors of which a file looks otherwise than it did, came or went."""
    files = before.files.keys() | after.files.keys()
    return frozenset(Path(file).stem for file in files if before.files.get(file) != after.files.get(file))


def of_connectors(agenda: Agenda, names: Collection[str]) -> Agenda:
    """The part of the agenda that is about these connectors."""
    return replace(
        agenda,
        scheduled={name: each for name, each in agenda.scheduled.items() if name in names},
        tested={name: each for name, each in agenda.tested.items() if name in names},
        problems=tuple(wrong for wrong in agenda.problems if wrong.connector in names),
    )


def fingerprint(folder: Path) -> Fingerprint:
    """Which files say what is scheduled, and how they look from outside; cheap enough to ask often."""
    found: dict[str, tuple[int, int, int, int]] = {}
    try:
        beside = [folder / PROJECT_FILE, *(folder / DEFINITIONS).iterdir()]
    except OSError:
        beside = [folder / PROJECT_FILE]
    for path in beside:
        try:
            seen = path.stat()
        except OSError:
            continue
        found[str(path)] = (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino)
    return found


class _Rules(Struct, frozen=True):
    """What one definition asks for."""

    scheduled: Scheduled | None = None
    tested: Tested | None = None


def _rules_before(before: Agenda | None, name: str) -> _Rules:
    return _Rules() if before is None else _Rules(before.scheduled.get(name), before.tested.get(name))


def _rules(project: Project, name: str, environ: Mapping[str, str]) -> _Rules:
    definition = load_definition(project.folder, name, environ).definition
    if not definition.enabled:
        return _Rules()
    settings = definition.scheduling_over(project.settings.schedule)
    zone = definition.timezone or project.settings.timezone
    scheduled = None if definition.schedule is None else _scheduled(name, definition.schedule, zone, settings)
    return _Rules(scheduled, _tested(name, zone, settings))


def _scheduled(name: str, schedule: str, zone: str, settings: ScheduleSettings) -> Scheduled:
    timing = Timing(name, schedule, zone, settings.catch_up, settings.catch_up_window, settings.jitter)
    retry = RetryRule(settings.retries, settings.retry_wait, settings.longest_retry_wait)
    breaker = BreakerPolicy(settings.breaker.failures, settings.breaker.cooldown)
    return Scheduled(timing, settings.timeout, retry, breaker)


def _tested(name: str, zone: str, settings: ScheduleSettings) -> Tested | None:
    if settings.test == NEVER:
        return None
    schedule = parse_schedule(settings.test)
    spread = min(schedule.interval, _WIDEST_SPREAD) if isinstance(schedule, Every) else settings.jitter
    timing = Timing(name, settings.test, zone, CatchUp.ONCE, _TEST_WINDOW, spread)
    return Tested(timing, settings.test_timeout)
