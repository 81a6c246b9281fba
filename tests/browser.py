"""A page in headless Chromium, with the keys that a person presses: by the DevTools protocol over two pipes.

https://chromedevtools.github.io/devtools-protocol/; messages end with a zero byte.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars",
)  # fmt: skip
_LOADED = "document.readyState === 'complete' && location.href"  # of an empty page first
_PLUMBED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


@dataclass
class Browser:
    """One page; its calls wait for Chromium's answer."""

    asks: int
    answers: int
    session: str | None = None
    _number: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command and its result. Raises AssertionError for an error, and where Chromium has ended."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.asks, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self.answers, 65536)
            assert more, "Chromium ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def value(self, script: str) -> Any:
        """What an expression gives on the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key and nothing else: Tab 9, Enter 13 (with text \\r)."""
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )


@contextmanager
def page_in_chromium(page: Path, profile: Path, *, width: int = 1000) -> Iterator[Browser]:
    """A file opened in a browser of its own, whose profile is that folder."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Chromium asks on 3 and answers on 4, either of which may be taken by the other one here.
    reading, writing = (fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs_in, theirs_out))
    process = subprocess.Popen(
        [sys.executable, "-c", _PLUMBED, str(reading), str(writing), str(CHROMIUM), *FLAGS,
         f"--user-data-dir={profile}", f"--window-size={width},800", "--remote-debugging-pipe"],
        pass_fds=(reading, writing), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for each in (theirs_in, theirs_out, reading, writing):
        os.close(each)
    try:
        browser = Browser(ours_out, ours_in)
        made = browser.call("Target.createTarget", url=page.as_uri())
        attached = browser.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        browser.session = attached["sessionId"]
        while browser.value(_LOADED) != page.as_uri():
            pass
        yield browser
    finally:
        process.kill()
        process.wait()
        os.close(ours_out)
        os.close(ours_in)
