"""What this process knows that nobody may read, and texts without it: errors, logs and tracebacks.

Rows are no such text: they arrive as they were. A secret is known from the moment it is resolved or typed.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable

from atlas_etl.secret_forms import SHORTEST, is_escaped, parts_of, replaced, traces, written_anyhow

MASK = "********"
_LONG = 12  # characters: a shorter text may be a part of an honest word, as `postgres` is of `postgresql`
_SHORTEST_BASE64 = 7
_MOST = 1000  # a process that runs for months is given new tokens all the time


class Redactor:
    """The secrets of a process. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, None] = {}  # in the order in which they came
        self._pattern: re.Pattern[bytes] | None = None
        self._traces = frozenset[bytes]()

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, but for those of less than four characters, which are found everywhere."""
        found = [part for secret in secrets for part in parts_of(secret) if len(part) >= SHORTEST]
        with self._lock:
            for secret in found:
                if secret not in self._known and secret not in MASK:
                    self._known[secret] = None
                    self._pattern = None
            for _ in range(len(self._known) - _MOST):
                del self._known[next(iter(self._known))]

    def forget(self) -> None:
        """Know nothing any more."""
        with self._lock:
            self._known.clear()
            self._pattern = None

    def text(self, text: str) -> str:
        """The text with MASK wherever a secret is in it, in whatever form."""
        if not self._known:
            return text
        with self._lock:
            if self._pattern is None:
                self._pattern = re.compile(
                    written_anyhow(self._known, MASK, shortest_inside=_LONG, shortest_base64=_SHORTEST_BASE64)
                )
                self._traces = traces(self._known, shortest_base64=_SHORTEST_BASE64)
            pattern, possible = self._pattern, self._traces
        content = text.encode("utf-8", "surrogatepass")
        if not any(trace in content for trace in possible) and not is_escaped(content):
            return text
        return replaced(pattern, lambda _: MASK.encode(), content).decode("utf-8", "replace")


class RedactingFormatter(logging.Formatter):
    """Lines of a log, tracebacks included, without what is known."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


_OF_THIS_PROCESS = Redactor()
learn, forget, redacted = _OF_THIS_PROCESS.learn, _OF_THIS_PROCESS.forget, _OF_THIS_PROCESS.text
