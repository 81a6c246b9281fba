"""`atlas connector`: the group; its commands live beside it."""

from __future__ import annotations

from atlas_etl.cli.lazy import Command, lazy_app

COMMANDS = {
    "types": Command(
        "connector_inspect",
        "The protocols: what each reads and writes, and whether its driver is installed.",
        "types",
    ),
    "add": Command(
        "connector_add",
        "Write connectors.d/NAME.yaml, after trying the connection and looking for the tables.",
        "add",
    ),
    "list": Command(
        "connector_inspect",
        "The connectors of this project, when each ran last and runs next, and how its last test went.",
        "show_list",
    ),
    "show": Command(
        "connector_inspect",
        "One connector's effective settings, secrets masked.",
        "show",
    ),
    "update": Command(
        "connector_define", "Set keys of a definition; an empty VALUE removes the key.", "update"
    ),
    "rotate": Command(
        "connector_rotate",
        "Give a connector a new credential, once it works: typed unseen, or from stdin.",
        "rotate",
    ),
    "remove": Command(
        "connector_define",
        "Delete a definition and its secrets; what it loaded and its history stay.",
        "remove",
    ),
    "enable": Command(
        "connector_define",
        "Let `sync --all` and the schedule run a connector.",
        "enable",
    ),
    "disable": Command(
        "connector_define", "Keep `sync --all` and the schedule from running a connector.", "disable"
    ),
    "test": Command(
        "connector_inspect", "Reach each source, log in, and say what is there.", "try_connections"
    ),
    "doctor": Command(
        "connector_doctor",
        "Look closely at both ends: what makes syncs slow, weak or impossible, and the fix of each.",
        "doctor",
    ),
    "discover": Command(
        "connector_inspect",
        "What a connector can read: streams, columns, keys, cursor candidates, estimated rows.",
        "discover",
    ),
    "preview": Command(
        "connector_inspect",
        "The first rows of a stream, as they would arrive.",
        "preview",
    ),
    "scan": Command(
        "connector_scan",
        "Which columns hold personal data, by their names and a sample of rows, and the rules to paste.",
        "scan",
    ),
    "plan": Command(
        "connector_plan",
        "What a sync would read, change and load, and which promise holds. Nothing is written anywhere.",
        "plan",
    ),
    "sync": Command(
        "connector_sync",
        "Copy what is new since the last sync, exactly once.",
        "sync",
    ),
    "history": Command(
        "connector_history",
        "The runs, the latest first, as bars too on a terminal; or tests; or what was verified.",
        "history",
    ),
    "resume": Command(
        "connector_resume",
        "Close a connector's circuit breaker, so that its schedule runs it again.",
        "resume",
    ),
    "verify": Command(
        "connector_verify",
        "Compare source and destination, row by row, as of the last sync. Exit code 8: they differ.",
        "verify",
    ),
}

app = lazy_app(
    COMMANDS, "Define, test and sync connectors, and see what they did.\n\nExample: atlas connector add"
)
