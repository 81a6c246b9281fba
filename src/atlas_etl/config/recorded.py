"""What the audit keeps of definitions and secrets: settings by dotted keys, names, and how they changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pydantic_core import to_jsonable_python

from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.layers import settings
from atlas_etl.config.secrecy import ends_in_secret, masked
from atlas_etl.model import AuditAction, AuditKind, Change, SealedSecret, Settings
from atlas_etl.redactor import redacted

# What is sent as it is written, under names that a user chose; and secrets whose names do not say so.
_OPAQUE = frozenset({"headers", "params", "body", "variables", "login_body", "proxy"})
_OF_SCHEDULE = ("schedule", "timezone", "enabled", "scheduling")


def recorded_settings(values: Mapping[str, object], opaque: Collection[KeyPath] = ()) -> dict[str, object]:
    """The settings of a file as it is written; texts below the keys of `opaque` are masked."""
    found: dict[str, object] = {}
    for path, value in settings(values, whole=ends_in_secret):
        hidden = {*opaque, path} if _OPAQUE.intersection(path) or _is_webhook(path) else opaque
        found[dotted(path)] = to_jsonable_python(_redacted(masked(value, path, hidden)), fallback=str)
    return found


def _redacted(value: object) -> object:
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return redacted(value) if isinstance(value, str) else value


def definition_changes(
    connector: str | None, subject: str | None, before: Settings | None, after: Settings | None
) -> list[Change]:
    """What became of a definition, told by what differs: of its schedule, and of everything else."""
    if before is None and after is None:
        return []
    if before is None or after is None:
        action = AuditAction.ADDED if before is None else AuditAction.REMOVED
        return [Change(AuditKind.DEFINITION, action, connector, subject, before, after)]
    keys = [key for key in {**before, **after} if _differs(key, before, after)]
    schedule = [key for key in keys if _is_of_schedule(key)]
    rest = [key for key in keys if not _is_of_schedule(key)]
    found = []
    if rest:
        old, new = _only(rest, before), _only(rest, after)
        found.append(Change(AuditKind.DEFINITION, AuditAction.CHANGED, connector, subject, old, new))
    if schedule:
        action = AuditAction.CHANGED
        if "enabled" in schedule:
            action = AuditAction.ENABLED if after.get("enabled", True) else AuditAction.DISABLED
        old, new = _only(schedule, before), _only(schedule, after)
        found.append(Change(AuditKind.SCHEDULE, action, connector, subject, old, new))
    return found


def secret_changes(before: Mapping[str, SealedSecret], after: Mapping[str, SealedSecret]) -> list[Change]:
    """What became of stored secrets, by their names; those that only have another key are one change."""

    def told(action: AuditAction, name: str) -> Change:
        return Change(AuditKind.SECRET, action, name.partition("/")[0], name)

    found = [told(AuditAction.REMOVED, name) for name in sorted(before.keys() - after.keys())]
    rotated = 0
    for name in sorted(after):
        if name not in before:
            found.append(told(AuditAction.ADDED, name))
        elif before[name].updated_at != after[name].updated_at:
            found.append(told(AuditAction.CHANGED, name))
        else:
            rotated += before[name] != after[name]
    if rotated:
        found.append(Change(AuditKind.SECRET, AuditAction.ROTATED, after={"secrets": rotated}))
    return found


def _only(keys: Iterable[str], values: Settings) -> Settings:
    return {key: values[key] for key in keys if key in values}


def _differs(key: str, before: Settings, after: Settings) -> bool:
    one, other = before.get(key), after.get(key)
    return (key in before) != (key in after) or type(one) is not type(other) or one != other


def _is_of_schedule(key: str) -> bool:
    return key.partition(".")[0].partition("[")[0] in _OF_SCHEDULE


def _is_webhook(path: KeyPath) -> bool:
    """Who has a webhook's address may post there."""
    return path[0] == "notices" and path[-1] == "url"
