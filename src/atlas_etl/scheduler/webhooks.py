"""Posting notices in a thread of its own, so that nobody who is slow to listen holds a run up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from atlas_etl.config.notices import NoticeTarget
from atlas_etl.http_statuses import MAY_PASS
from atlas_etl.scheduler.notices import Notice, is_wanted, message

_MOST_WAITING = 1000
_TIMEOUT = (5.0, 10.0)  # seconds, to reach and to answer
_ATTEMPTS = 5
_LAST_SECONDS = 5.0  # for what waits when the scheduler ends


class Webhooks:
    """The targets of one project, until its block is left. `failed` is told of a notice that was given up."""

    def __init__(
        self, targets: Mapping[str, NoticeTarget], project: str, failed: Callable[[str, Notice, str], None]
    ) -> None:
        self._targets = targets
        self._project = project
        self._failed = failed
        self._waiting: queue.Queue[tuple[str, Notice] | None] = queue.Queue(_MOST_WAITING)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._post_all, name="atlas-notices", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        try:
            self._waiting.put_nowait(None)
            self._thread.join(_LAST_SECONDS)
        except queue.Full:
            pass

    def retarget(self, targets: Mapping[str, NoticeTarget]) -> None:
        """Tell these from now on."""
        self._targets = targets

    def tell(self, notice: Notice) -> None:
        """Have every target told that wants to know; comes back at once."""
        for name, target in self._targets.items():
            if not is_wanted(target, notice):
                continue
            try:
                self._waiting.put_nowait((name, notice))
            except queue.Full:
                self._failed(name, notice, "too many notices wait already")

    def _post_all(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            name, notice = waiting
            target = self._targets.get(name)
            if target is None:
                continue  # it was taken out meanwhile
            why = _posted(target, message(target, notice, self._project), self._pause)
            if why is not None:
                self._failed(name, notice, why)

    def _pause(self, seconds: float) -> None:
        self._ending.wait(seconds)


def _posted(target: NoticeTarget, body: Mapping[str, object], pause: Callable[[float], None]) -> str | None:
    """Why it did not arrive, without the URL, whose path is the secret of such hooks; None where it did."""
    import requests  # these take longer to load than schedulers without webhooks want to wait
    from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential_jitter

    url = target.url.get_secret_value()
    host = urlsplit(url).hostname

    def once() -> tuple[str | None, bool]:
        """Why not, and whether that may pass."""
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.post(url, json=body, timeout=_TIMEOUT, allow_redirects=False)
            except requests.RequestException as failure:
                may_pass = isinstance(failure, requests.ConnectionError | requests.Timeout)
                return f"{host} cannot be reached", may_pass
        if answer.ok and not answer.is_redirect:
            return None, False
        return f"{host} answered with {answer.status_code}", answer.status_code in MAY_PASS

    retrying = Retrying(
        retry=retry_if_result(lambda found: found[1]),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=1, max=30, jitter=1),
        sleep=pause,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else ("", False),
    )
    why, _ = retrying(once)
    return why
