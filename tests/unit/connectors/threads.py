"""The threads that a read may leave behind."""

from __future__ import annotations

import threading


def reading_threads() -> set[threading.Thread]:
    """All but the one that looks after the process's sessions."""
    return {thread for thread in threading.enumerate() if thread.name != "atlas-lock-waits"}
