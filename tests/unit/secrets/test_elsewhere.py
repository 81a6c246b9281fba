"""`${cmd:...}` and `${keyring:...}`: what a program prints and what a keyring has, and no word more."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from atlas_etl.errors import ConfigError, MissingDriverError
from atlas_etl.redactor import MASK, redacted
from atlas_etl.secrets.command import output_of
from atlas_etl.secrets.elsewhere import lookups
from atlas_etl.secrets.file import FileShelf
from atlas_etl.secrets.keys import key_source
from atlas_etl.secrets.store import SecretStore

ENVIRON = {"PATH": os.environ["PATH"]}


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring in this process, for machines without one."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password) > 1000:
            raise keyring.errors.PasswordSetError(f"cannot keep {password}")
        self.kept[service, username] = password


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    previous, made = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(previous)


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def refused(code: str, written: str, folder: Path, seconds: float = 60) -> str:
    with pytest.raises(ConfigError) as caught:
        output_of(written, folder, ENVIRON, seconds)
    assert caught.value.code == code
    return f"{caught.value.message} {caught.value.hint}"


def test_a_program_gets_its_words_as_they_are_written_and_no_shell(tmp_path: Path) -> None:
    assert output_of("printf '%s\\n' hunter2", tmp_path, ENVIRON) == "hunter2"
    assert (
        output_of("echo 'a  b' \"c $HOME\" `id` ; * > out", tmp_path, ENVIRON)
        == "a  b c $HOME `id` ; * > out"
    )
    assert not (tmp_path / "out").exists()
    assert output_of("printf 'two\\nlines\\n\\n'", tmp_path, ENVIRON) == "two\nlines\n"
    assert output_of("pwd", tmp_path, ENVIRON) == str(tmp_path)
    assert output_of("env", tmp_path, {**ENVIRON, "X": "1"}).endswith("X=1")


def test_a_program_is_not_told_what_is_atlas_own(tmp_path: Path) -> None:
    environ = {
        **ENVIRON,
        "ATLAS_SECRET_KEY": "hunter2",
        "ATLAS_CONNECTOR_SHOP__PASSWORD": "hunter2",
        "X": "1",
    }
    assert set(output_of("env", tmp_path, environ).splitlines()) >= {"X=1"}
    assert "hunter2" not in output_of("env", tmp_path, environ)


def test_a_program_that_fails_is_named_and_not_quoted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "leaky"
    script.write_text("#!/bin/sh\necho hunter2; echo hunter2 >&2; exit 3\n")
    script.chmod(0o755)
    said = [
        refused("command_failed", f"{script} hunter2", tmp_path),
        refused("command_failed", "no-such-program hunter2", tmp_path),
        refused("command_failed", "true hunter2", tmp_path),
        refused("command_failed", "printf '\\377hunter2'", tmp_path),
        refused("command_failed", "printf 'hunter2\\000'", tmp_path),
        refused("reference_syntax", "", tmp_path),
        refused("reference_syntax", "echo 'hunter2", tmp_path),
    ]
    assert "ended with exit code 3" in said[0]
    assert "hunter2" not in "".join(said) + "".join(capfd.readouterr())


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! $$ > {pids}\nwait\n")
    script.chmod(0o755)
    assert "did not end within 0.5 s" in refused("command_failed", str(script), tmp_path, 0.5)
    for pid in pids.read_text().split():
        until = time.monotonic() + 10
        while is_running(pid):
            assert time.monotonic() < until


def test_the_keyring_is_asked_for_a_service_and_a_user(tmp_path: Path, ring: MemoryKeyring) -> None:
    ring.kept["db/eu", "etl"] = "hunter2"
    look = lookups(tmp_path, ENVIRON)["keyring"]
    assert look("db/eu/etl") == "hunter2"
    for written, code in (
        ("db/eu/x", "missing_secret"),
        ("etl", "reference_syntax"),
        ("/", "reference_syntax"),
    ):
        with pytest.raises(ConfigError) as caught:
            look(written)
        assert caught.value.code == code


def test_the_key_of_a_project_may_be_in_the_keyring(tmp_path: Path, ring: MemoryKeyring) -> None:
    folder = tmp_path / ".atlas"

    def opened() -> SecretStore:
        return SecretStore(FileShelf(folder), key_source(folder, {}, in_keyring=True))

    opened().set({"a/b": "hunter2"})
    first = dict(ring.kept)
    assert list(first) == [("atlas-etl", str(tmp_path))]
    assert not (folder / "secret.key").exists()
    assert opened().rotate() == 1
    assert opened().get("a/b") == "hunter2"
    assert ring.kept != first
    ring.kept.clear()
    with pytest.raises(ConfigError, match="which the operating system's keyring does not hold"):
        opened().get("a/b")


def test_a_keyring_that_refuses_is_not_quoted(tmp_path: Path) -> None:
    class Locked(MemoryKeyring):
        def get_password(self, service: str, username: str) -> str | None:
            raise keyring.errors.KeyringLocked("hunter2")

    previous = keyring.get_keyring()
    keyring.set_keyring(Locked())
    try:
        with pytest.raises(ConfigError) as caught:
            lookups(tmp_path, ENVIRON)["keyring"]("a/b")
    finally:
        keyring.set_keyring(previous)
    assert caught.value.code == "keyring"
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


def test_a_package_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.setitem(sys.modules, "keyring.errors", None)
    with pytest.raises(MissingDriverError) as caught:
        lookups(tmp_path, ENVIRON)["keyring"]("a/b")
    assert caught.value.hint == 'pip install "atlas-etl[keyring]"'


def test_what_others_keep_is_masked_wherever_it_stands_in_a_definition(tmp_path: Path) -> None:
    assert lookups(tmp_path, ENVIRON)["cmd"]("echo caNary-of-a-program") == "caNary-of-a-program"
    assert redacted("X-Team: caNary-of-a-program") == f"X-Team: {MASK}"
