"""Kubernetes: a CronJob of batch/v1 for each connector, which knows zones (`timeZone`, since 1.27).

The image is what examples/deploy/Dockerfile builds; the project's folder is mounted where it is here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from atlas_etl.config.yaml_source import Value
from atlas_etl.config.yaml_text import dump
from atlas_etl.errors import ConfigError
from atlas_etl.scheduler.export.calendars import expression, only_calendars
from atlas_etl.scheduler.export.entries import Entry, Export, refused

FILE = "atlas-cronjobs.yaml"
COMMAND = "/opt/atlas/bin/atlas"
_LONGEST_NAME = 52  # jobs add a time to it


def export(of: Export) -> Mapping[str, str]:
    """One file with all of them, for `kubectl apply -f`."""
    names = [object_name(entry.name) for entry in of.entries]
    for entry, name in zip(of.entries, names, strict=True):
        if names.count(name) > 1:
            raise ConfigError(
                f"another connector would be the CronJob {name!r}, too",
                hint="rename one of them: Kubernetes knows no capitals and no underscores",
                code="schedule_not_exportable",
                connector=entry.name,
            )
    documents = [dump(_cron_job(entry, of)) for entry in of.entries]
    header = f"# Atlas: the schedules of {of.installation.folder}\n# Install with: kubectl apply -f {FILE}\n"
    return {FILE: header + "---\n".join(documents)}


def object_name(connector: str) -> str:
    """A name as RFC 1123 has them; one that is too long is shortened with a hash, the same every time."""
    name = f"atlas-{connector.lower().replace('_', '-')}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"


def _cron_job(entry: Entry, of: Export) -> Value:
    found = only_calendars(entry, "a CronJob")
    if len(found) > 1:
        raise refused(
            entry,
            "takes more than one cron expression, and a CronJob has one",
            "choose a time that divides an hour, or is whole hours, or leave it to `atlas schedule`",
        )
    (calendar,) = found
    folder = str(of.installation.folder)
    container: dict[str, Value] = {
        "name": "atlas",
        "image": of.installation.image,
        # `$(...)` of a command is Kubernetes' own; `$$` is one `$`.
        "command": [COMMAND],
        "args": [word.replace("$", "$$") for word in of.installation.arguments(entry.name, "kubernetes")],
        "workingDir": folder,
        "volumeMounts": [{"name": "project", "mountPath": folder}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": object_name(entry.name),
            "labels": {"app.kubernetes.io/name": "atlas-etl", "app.kubernetes.io/component": "sync"},
            "annotations": {"atlas-etl/connector": entry.name, "atlas-etl/schedule": entry.schedule},
        },
        "spec": {
            "schedule": expression(calendar, entry, stars_need_both=False),
            "timeZone": calendar.timezone,
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 2,
                    "template": {
                        "spec": {
                            "restartPolicy": "Never",
                            "securityContext": {
                                "runAsUser": of.installation.user_id,
                                "runAsGroup": of.installation.group_id,
                            },
                            "containers": [container],
                            "volumes": [
                                {"name": "project", "hostPath": {"path": folder, "type": "Directory"}}
                            ],
                        }
                    },
                }
            },
        },
    }
