"""Secrets on disk: sealed, bound to their names, private, whole, and there after whatever kills a writer."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.secrets.conftest import Opened, new_key

from atlas_etl.errors import ConfigError
from atlas_etl.secrets.sealing import Key, KeyRing

CANARY = "canary/+ pä$$${env:X}wörd\n"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
PARTS = st.text(st.sampled_from("abcAB019_.~%-"), min_size=1, max_size=8)
NAMES = st.lists(PARTS, min_size=2, max_size=4).map("/".join)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(code: str, function: object, *args: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        function(*args)  # type: ignore[operator]
    assert caught.value.code == code, caught.value.message
    return caught.value


@given(NAMES, TEXTS)
def test_what_was_sealed_is_opened_under_its_name_alone(name: str, text: str) -> None:
    key = Key.new()
    token = key.seal(name, text)
    assert key.open(name, token) == text
    assert token != key.seal(name, text)
    for other, changed in ((name + "x", token), (name, token[:-1] + bytes([token[-1] ^ 1])), (name, b"")):
        assert (
            refusal("secret_damaged", key.open, other, changed).message.count(text if len(text) > 9 else "\0")
            == 0
        )
    assert refusal("secret_damaged", Key.new().open, name, token)


@given(values=st.dictionaries(NAMES, TEXTS, min_size=1, max_size=5))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_gives_back_what_was_set_also_after_rotations(
    anywhere: Opened, values: dict[str, str]
) -> None:
    anywhere().set(values)
    before = anywhere().changed()
    assert values.keys() <= before.keys()
    for _ in range(2):
        assert {name: anywhere().get(name) for name in values} == values
        assert anywhere().rotate() == len(before)
    assert anywhere().changed() == before  # a rotation changes no value


def test_files_are_for_their_owner_whatever_the_umask(opened: Opened, folder: Path) -> None:
    for mask in (0o000, 0o777):
        previous = os.umask(mask)
        try:
            opened().set({"shop/password": CANARY})
            opened().rotate()
        finally:
            os.umask(previous)
        assert mode(folder) == 0o700
        assert {mode(path) for path in folder.iterdir() if path.name.startswith("secret")} == {0o600}
    assert (folder / ".gitignore").read_text() == "*\n"
    assert opened().get("shop/password") == CANARY


def test_no_file_shows_a_value(opened: Opened, folder: Path) -> None:
    opened().set({"shop/password": CANARY, "shop/auth/token": "canary"})
    opened().rotate()
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    for encoded in (b"canary", base64.b64encode(b"canary")[:-2], CANARY.strip().encode()):
        assert encoded not in content


@pytest.mark.parametrize("file", ["secret.key", "secrets.json"])
def test_a_file_that_everybody_may_read_is_refused(opened: Opened, folder: Path, file: str) -> None:
    opened().set({"shop/password": CANARY})
    (folder / file).chmod(0o644)
    error = refusal("exposed_secret", opened().get, "shop/password")
    assert f"chmod o-rwx {folder / file}" in str(error.hint)
    (folder / file).chmod(0o640)
    assert opened().get("shop/password") == CANARY


def test_a_token_under_another_name_is_refused(opened: Opened, folder: Path) -> None:
    opened().set({"a/password": CANARY, "b/password": "other"})
    file = folder / "secrets.json"
    document = json.loads(file.read_text())
    document["secrets"]["b/password"] = document["secrets"]["a/password"]
    file.write_text(json.dumps(document))
    assert opened().get("a/password") == CANARY
    assert "canary" not in refusal("secret_damaged", opened().get, "b/password").message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "secrets": {"a/b": {"key": "x"}}}']
)
def test_a_damaged_file_is_told_and_stays(opened: Opened, folder: Path, text: str) -> None:
    opened().set({"shop/password": CANARY})
    (folder / "secrets.json").write_text(text)
    refusal("secrets_damaged", opened().get, "shop/password")
    refusal("secrets_damaged", opened().set, {"a/b": "x"})
    assert (folder / "secrets.json").read_text() == text


def test_a_file_of_a_later_version_is_left_alone(opened: Opened, folder: Path) -> None:
    opened().set({"shop/password": CANARY})
    (folder / "secrets.json").write_text('{"version": 2, "secrets": {}}')
    refusal("secrets_newer", opened().set, {"a/b": "x"})


def test_missing_secrets_and_names_that_are_none(anywhere: Opened) -> None:
    anywhere().set({"shop/password": CANARY})
    assert refusal("missing_secret", anywhere().get, "shop/pasword").hint == "did you mean 'shop/password'?"
    assert refusal("missing_secret", anywhere().get, "x/y").hint == "atlas secret set x/y"
    refusal("missing_secret", anywhere().remove, ["shop/password", "x/y"])
    for name in ("password", "/a", "a/", "a//b", "a/b c", "a/{b}", "a/" + "b" * 255):
        refusal("secret_name", anywhere().set, {name: "x"})
    for value in ("", "\ud800", "x" * (1024 * 1024 + 1)):
        refusal("secret_value", anywhere().set, {"a/b": value})
    assert list(anywhere().changed()) == ["shop/password"]
    anywhere().remove(["shop/password"])
    assert anywhere().changed() == {}


def test_several_keys_of_the_environment_open_and_the_first_one_seals(anywhere: Opened, folder: Path) -> None:
    old, new = new_key(), new_key()
    anywhere(old).set({"a/b": CANARY})
    assert not (folder / "secret.key").exists()
    assert refusal("missing_key", anywhere(new).get, "a/b").hint
    refusal("missing_key", anywhere(new).set, {"c/d": "x"})  # a store of two rings is open to nobody
    assert anywhere(new, old).get("a/b") == anywhere(old, new).get("a/b") == CANARY
    assert refusal("secret_key", anywhere(old).rotate).hint is not None
    assert anywhere(new, old).rotate() == 1
    assert anywhere(new).get("a/b") == CANARY
    refusal("missing_key", anywhere(old).get, "a/b")
    assert anywhere(new, old).rotate() == 0


def test_a_lost_key_can_be_begun_anew(anywhere: Opened, folder: Path) -> None:
    anywhere().set({"a/b": CANARY, "c/d": CANARY})
    (folder / "secret.key").unlink()
    refusal("missing_key", anywhere().get, "a/b")
    refusal("missing_key", anywhere().rotate)
    refusal("missing_key", anywhere().set, {"a/b": "new"})
    anywhere().remove(["c/d"])
    anywhere().set({"a/b": "new"})
    assert anywhere().get("a/b") == "new"


@pytest.mark.parametrize("text", ["hunter2", "x" * 44, base64.b64encode(b"short").decode(), "ä", ","])
def test_what_is_no_key_is_refused_without_being_shown(opened: Opened, text: str) -> None:
    error = refusal("secret_key", opened(text).set, {"a/b": "x"})
    assert "hunter2" not in f"{error.message}{error.hint}"


def test_keys_are_read_in_both_alphabets() -> None:
    key = Key(b"\xfb\xff" * 16)
    for text in (base64.b64encode(key.content), base64.urlsafe_b64encode(key.content)):
        assert KeyRing.parse(f" {text.decode()} ,", "x").keys == (key,)
    assert "\\xfb" not in repr(key)


def test_writers_at_the_same_time_lose_nothing_and_make_one_key(anywhere: Opened) -> None:
    names = [f"c{number}/password" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: anywhere().set({name: name}), names))
    assert {name: anywhere().get(name) for name in names} == {name: name for name in names}


def test_readers_meet_no_moment_without_a_key(anywhere: Opened) -> None:
    anywhere().set({f"c{number}/password": CANARY for number in range(50)})
    with ThreadPoolExecutor(4) as pool:
        rotations = [pool.submit(lambda: [anywhere().rotate() for _ in range(8)]) for _ in range(2)]
        looks = 0
        while not all(rotation.done() for rotation in rotations):
            assert anywhere().get(f"c{looks % 50}/password") == CANARY
            looks += 1
        for rotation in rotations:
            assert rotation.result() == [50] * 8
    assert looks > 10


_KILLED = """
import os, signal, sys
from pathlib import Path
from atlas_etl.secrets.file import FileShelf
from atlas_etl.secrets.keys import key_source
from atlas_etl.secrets.store import SecretStore

folder, at = Path(sys.argv[1]), int(sys.argv[2])
seen = 0

def step(name, call):
    def stepped(*args, **named):
        global seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **named)
    return stepped

for name in ("open", "replace", "fsync", "close", "unlink", "fchmod"):
    setattr(os, name, step(name, getattr(os, name)))
store = SecretStore(FileShelf(folder), key_source(folder, {}, in_keyring=False))
store.set({"new/one": "1"}) if sys.argv[3] == "set" else store.rotate()
print(seen)
"""


@pytest.mark.parametrize("what", ["rotate", "set"])
def test_killed_at_any_step_no_secret_is_lost(opened: Opened, folder: Path, what: str) -> None:
    """Each call that opens, writes, renames or flushes is a point at which the process may die."""
    values = {"a/b": CANARY, "c/d": "other"}
    opened().set(values)
    at, steps, seen = 0, 0, set()
    while True:
        at += 1
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(folder), str(at), what],
            capture_output=True,
            text=True,
            check=False,
        )
        assert {name: opened().get(name) for name in values} == values, f"after step {at}"
        key = (folder / "secret.key").read_text()
        seen.add(key.count("\n"))
        if done.returncode == 0:
            steps = int(done.stdout)
            break
        assert done.returncode == -9, done.stderr
    assert steps == at - 1 >= 8
    assert opened().rotate() in (2, 3)
    assert {name: opened().get(name) for name in values} == values
    assert (folder / "secret.key").read_text().count("\n") == 1
    assert what == "set" or max(seen) > 1  # some died between the keys
    leftovers = [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    for path in leftovers:
        assert mode(path) == 0o600
        assert CANARY.strip().encode() not in path.read_bytes()


def test_what_a_writer_did_not_finish_is_not_kept(anywhere: Opened) -> None:
    store = anywhere()
    store.set({"a/b": CANARY})
    with pytest.raises(ZeroDivisionError), store._shelf.changing() as secrets:
        secrets.clear()
        raise ZeroDivisionError
    assert anywhere().get("a/b") == CANARY
