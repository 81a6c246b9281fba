"""Refresh tokens that are worth one use: processes share one, and none is lost by what ends a process."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from pytest_httpserver import HTTPServer
from tests.project import Finished, Project
from tests.servers.address import ServerAddress
from tests.waiting import PATIENCE_SECONDS, until
from werkzeug import Request, Response

from atlas_etl.secrets.file import FileShelf
from atlas_etl.state.open import look_at_state

FIRST = "hush-refresh-0"
LONG = 2.0  # seconds that one waits for another, who must not come


@dataclass
class Rotating:
    """A token server that revokes everything once a spent token comes again (RFC 9700, section 4.14.2)."""

    server: HTTPServer
    valid: str = FIRST
    used: int = 0
    is_revoked: bool = False
    forgives: bool = False  # whether the token before is good until the newer one is used
    entered: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)  # a slow server waits for it
    together: threading.Barrier | None = None

    def serve(self) -> None:
        self.server.expect_request("/token").respond_with_handler(self._token)
        self.server.expect_request("/things").respond_with_handler(self._things)

    def _token(self, request: Request) -> Response:
        if self.together is not None:
            with suppress(threading.BrokenBarrierError):
                self.together.wait(LONG)
        given = request.form["refresh_token"]
        if given != self.valid and not self.forgives:
            self.is_revoked = True
        if self.is_revoked:
            return Response('{"error": "invalid_grant"}', status=400)
        self.used += 1
        self.valid = f"hush-refresh-{self.used}"
        answer = {"access_token": "access", "expires_in": 3600, "refresh_token": self.valid}
        self.entered.set()
        self.go_on.wait(PATIENCE_SECONDS)
        return Response(json.dumps(answer), content_type="application/json")

    def _things(self, request: Request) -> Response:
        is_known = request.headers.get("Authorization") == "Bearer access"
        return Response('[{"id": 1}]' if is_known else "", status=200 if is_known else 401)


@pytest.fixture
def rotating() -> Iterator[Rotating]:
    with HTTPServer(threaded=True) as server:
        made = Rotating(server)
        made.go_on.set()
        made.serve()
        yield made
        made.go_on.set()


@pytest.fixture
def shared(project: Project, rotating: Rotating) -> Project:
    """Two connectors that refer to one token, which is stored."""
    url = rotating.server.url_for
    for name in ("one", "two"):
        project.write(
            f"connectors.d/{name}.yaml",
            f"protocol: http\nconnection:\n  base_url: {url('/')}\n  attempts: 1\n"
            f"  auth: {{type: oauth2, grant: refresh_token, token_url: {url('/token')}, client_id: id, "
            "refresh_token: '${secret:shared/refresh_token}'}\n"
            "  resources: {things: {path: /things}}\nstreams: [{name: things, path: things}]\n",
        )
    store(project, FIRST)
    return project


def store(project: Project, token: str) -> None:
    assert project.atlas("secret", "set", "shared/refresh_token", input=token).returncode == 0


def sync(project: Project, name: str = "one") -> Finished:
    return project.atlas("connector", "sync", name)


def test_two_processes_that_share_a_token_use_it_one_after_the_other(
    shared: Project, rotating: Rotating
) -> None:
    rotating.together = threading.Barrier(2)  # who does not wait for the other meets him here
    running = [shared.start("connector", "sync", name) for name in ("one", "two")]
    ended = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0], ended
    assert (rotating.used, rotating.is_revoked) == (2, False)
    rotating.together = None
    assert sync(shared).returncode == 0


def pending(process: int) -> set[int]:
    """The signals that were sent to a process and not yet taken; none where there is no /proc."""
    with suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text()
        masks = [int(line.split()[1], 16) for line in status.splitlines() if line[:6] in {"SigPnd", "ShdPnd"}]
        return {number for number in range(1, 65) for mask in masks if mask >> (number - 1) & 1}
    return set()


@pytest.mark.parametrize(
    ("command", "number"),
    [("sync", signal.SIGINT), ("sync", signal.SIGTERM), ("test", signal.SIGINT)],
    ids=["sync-int", "sync-term", "test-int"],
)
def test_a_signal_waits_until_the_new_token_is_stored(
    shared: Project, rotating: Rotating, command: str, number: signal.Signals
) -> None:
    rotating.go_on.clear()
    running = shared.start("connector", command, "one")
    assert rotating.entered.wait(60)  # the old token is spent by now, and the answer on its way
    running.send_signal(number)
    until(lambda: number not in pending(running.pid), "the signal has arrived")
    rotating.go_on.set()
    said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    done = sync(shared)
    assert (done.returncode, rotating.is_revoked) == (0, False), done.stderr


@pytest.mark.parametrize("forgives", [True, False])
def test_a_token_that_was_lost_with_its_process_is_told(
    shared: Project, rotating: Rotating, forgives: bool
) -> None:
    rotating.forgives = forgives
    rotating.go_on.clear()
    killed = shared.start("connector", "sync", "one")
    assert rotating.entered.wait(60)
    killed.kill()
    killed.communicate(timeout=60)
    rotating.go_on.set()
    done = sync(shared, "two")
    if forgives:  # what is stored is good for another try
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 3
        assert "an exchange of this refresh token began at" in done.stderr
        assert "authorize the app again" in done.stderr
        assert "hush" not in done.stdout + done.stderr
        again = shared.atlas("connector", "sync", "two", "--json")  # until there is another one
        (stream,) = again.json()["runs"][0]["streams"]
        assert stream["error"]["code"] == "token_lost"
        rotating.is_revoked, rotating.valid = False, "hush-another"
        store(shared, "hush-another")
        done = sync(shared)
        assert done.returncode == 0, done.stderr
    (lock,) = (shared.folder / ".atlas").glob("exchange-*.lock")
    assert (lock.read_text(), lock.stat().st_mode & 0o777) == ("", 0o600)


def test_another_token_is_not_said_to_be_lost(tmp_path: Path) -> None:
    shelf = FileShelf(tmp_path / ".atlas")
    with suppress(ZeroDivisionError), shelf.exchanging("shop/token", "one") as broken_off:
        assert broken_off is None
        raise ZeroDivisionError
    with shelf.exchanging("shop/token", "two") as broken_off:
        assert broken_off is None
    with suppress(ZeroDivisionError), shelf.exchanging("shop/token", "one"):
        raise ZeroDivisionError
    with shelf.exchanging("other/token", "one") as broken_off:
        assert broken_off is None
    with shelf.exchanging("shop/token", "one") as broken_off:
        assert broken_off is not None
    with shelf.exchanging("shop/token", "one") as broken_off:
        assert broken_off is None


def test_hosts_that_share_a_database_take_turns(postgres: ServerAddress) -> None:
    url = postgres.url("postgresql")
    is_second = threading.Event()

    def second() -> None:
        with closing(look_at_state(url)) as other, other.alone("shop/token"):
            is_second.set()

    waiting = threading.Thread(target=second)
    with closing(look_at_state(url)) as one, closing(look_at_state(url)) as another:
        with one.alone("shop/token"), another.alone("other/token"):
            waiting.start()
            until(lambda: _waiting_for_a_lock(postgres), "the second one waits")
            assert not is_second.is_set()
        waiting.join(60)
    assert is_second.is_set()


def _waiting_for_a_lock(postgres: ServerAddress) -> bool:
    count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(postgres.url("postgresql")) as connection:
        (found,) = connection.execute(count).fetchone() or (0,)
    return bool(found)
