"""What a project's files say, told to the audit: what commands change, and what changed without them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from atlas_etl.api.state_location import state_location
from atlas_etl.config.definitions import load_definition
from atlas_etl.config.folder import definition_names
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.project import Project, load_project
from atlas_etl.config.project_folder import PROJECT_FILE
from atlas_etl.config.recorded import recorded_settings
from atlas_etl.config.yaml_source import read_mapping
from atlas_etl.connectors import registry
from atlas_etl.contracts import AuditLog
from atlas_etl.errors import AtlasError, ConfigError
from atlas_etl.model import Actor, Settings
from atlas_etl.state.open import open_state_store

log = logging.getLogger(__name__)


def definition_settings(written: Mapping[str, object]) -> Settings:
    """A definition as the audit keeps it."""
    return recorded_settings(written, _opaque(written, ("connection",)))


def notice_changes(project: Project, audit: AuditLog, names: Collection[str] | None = None) -> None:
    """Tell the audit what the files say now; only of `names`, where nothing else can have changed.

    What cannot be read is neither changed nor gone. Raises ConfigError, StateError.
    """
    there = definition_names(project.folder)
    wanted = there if names is None else [name for name in there if name in names]
    seen = {}
    for name in wanted:
        with suppress(ConfigError):
            seen[name] = _definition(project.folder, name, project.context.environ)
    if (project.folder / PROJECT_FILE).exists():
        there.append(PROJECT_FILE)
        with suppress(ConfigError):
            seen[PROJECT_FILE] = _project_file(project.folder / PROJECT_FILE)
    audit.notice(seen, gone_without=there)


@contextmanager
def recorded(folder: Path, environ: Mapping[str, str], name: str, actor: Actor) -> Iterator[None]:
    """Have the audit know what becomes of a definition in this block, unless it is left by an exception."""
    before = _settings_now(folder, name, environ)
    yield
    after = _settings_now(folder, name, environ)
    tell_audit(lambda: load_project(folder, environ), actor, lambda audit: audit.define(name, before, after))


def record_project_file(folder: Path, environ: Mapping[str, str], actor: Actor) -> None:
    """Have the audit know a project's file that was just made. Raises ConfigError where it cannot be read."""
    made = _project_file(folder / PROJECT_FILE)
    tell_audit(
        lambda: load_project(folder, environ), actor, lambda audit: audit.define(PROJECT_FILE, None, made)
    )


def tell_audit(project: Callable[[], Project], actor: Actor, tell: Callable[[AuditLog], None]) -> None:
    """Record what was changed already. Where that fails it stays, with a warning."""
    try:
        with closing(open_state_store(state_location(project()), actor=actor)) as store:
            tell(store.audit)
    except AtlasError as failure:
        log.warning("the change was made, and is not in the audit: %s", failure.message)


def _settings_now(folder: Path, name: str, environ: Mapping[str, str]) -> Settings | None:
    """None: there is no such definition; without any setting: it cannot be read."""
    try:
        return _definition(folder, name, environ)
    except ConfigError:
        return {} if name in definition_names(folder) else None


def _definition(folder: Path, name: str, environ: Mapping[str, str]) -> Settings:
    return definition_settings(load_definition(folder, name, environ).written.values)


def _project_file(file: Path) -> Settings:
    values = read_mapping(file, PROJECT_FILE).values
    places: list[KeyPath] = []
    for key in ("destinations", "defaults"):
        group = values.get(key)
        for name, target in group.items() if isinstance(group, dict) else ():
            protocol = name if key == "defaults" else None
            places += _opaque(target, (key, name), protocol)
    return recorded_settings(values, places)


def _opaque(written: object, at: KeyPath, protocol: str | None = None) -> list[KeyPath]:
    """The connection's place, where only another package knows which of its keys are secrets."""
    named = protocol or (written.get("protocol") if isinstance(written, Mapping) else None)
    return [] if named is None or registry.is_built_in(str(named)) else [at]
