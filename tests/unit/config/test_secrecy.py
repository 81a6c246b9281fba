"""What is a secret, and how settings look when they are shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel, SecretStr

from atlas_etl.config.annotations import model_in
from atlas_etl.config.secrecy import (
    MASK,
    is_secret_name,
    literal_secrets,
    masked,
    secret_fields,
    without_credentials,
)
from atlas_etl.connectors import registry


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "sslpassword",
        "db_password",
        "secret",
        "client_secret",
        "clientSecret",
        "token",
        "auth_token",
        "authToken",
        "access_token",
        "api_key",
        "apikey",
        "apiKey",
        "X-API-Key",
        "key",
        "private_key",
        "secret_key",
        "access_key",
        "account_key",
        "credential",
        "credentials",
        "Authorization",
        "cookie",
        "dsn",
        "ssh_key",
        "signing_key",
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "port",
        "username",
        "database",
        "primary_key",
        "cursor_key",
        "next_key",
        "data_key",
        "public_key",
        "partition_key",
        "token_url",
        "password_file",
        "key_file",
        "secret_path",
        "api_key_header",
        "token_type",
        "access_key_id",
        "client_id",
        "keepalives",
        "keyspace",
        "monkey",
        "compass",
        "sslmode",
        "sslrootcert",
        "path",
        "bypass",
        "secret_encoding",
    ],
)
def test_other_names(name: str) -> None:
    assert not is_secret_name(name)


def test_masked_values() -> None:
    shown = masked(
        {
            "host": "db",
            "port": 5432,
            "password": "hunter2",
            "pin": SecretStr("hunter2"),
            "api_key": 12345,
            "token": "${env:TOKEN}",
            "secret": "${env:TOKEN:-hunter2}",
            "pwd": "x${env:TOKEN}hunter2",
            "credentials": {"user": "hunter2", "list": ["hunter2"]},
            "base_url": "https://me:hunter2@example.com/a?page=1&api_key=hunter2#x",
            "options": "connect_timeout=5 password=hunter2",
            "headers": {"X-Auth-Token": "hunter2", "Accept": "*/*"},
            "passwordless": True,
        },
        (),
    )
    assert "hunter2" not in repr(shown)
    assert shown == {
        "host": "db",
        "port": 5432,
        "password": MASK,
        "pin": MASK,
        "api_key": MASK,
        "token": "${env:TOKEN}",
        "secret": f"${{env:TOKEN:-{MASK}}}",
        "pwd": MASK,
        "credentials": MASK,
        "base_url": f"https://me:{MASK}@example.com/a?page=1&api_key={MASK}#x",
        "options": f"connect_timeout=5 password={MASK}",
        "headers": {"X-Auth-Token": MASK, "Accept": "*/*"},
        "passwordless": True,
    }


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h/0",
        "postgresql://u:hunter2@x@h/d",
        "https://u:hun/ter2@h",
        "a://u:hunter2@h b://u:hunter2@h",
    ],
)
def test_passwords_in_urls(url: str) -> None:
    assert "ter2" not in without_credentials(url)
    assert MASK in without_credentials(url)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://hunter2token@h/v1", f"https://{MASK}@h/v1"),
        ("https://hunter2token:@h/v1", f"https://{MASK}@h/v1"),
        ("etl:hunter2@db:5432/shop", f"etl:{MASK}@db:5432/shop"),
        ("SET PASSWORD = 'hunter2''x y'", f"SET PASSWORD = '{MASK}'"),
        ("ALTER ROLE a IDENTIFIED BY 'hunter2'", f"ALTER ROLE a IDENTIFIED BY '{MASK}'"),
        ('{"client_secret": "hunt\\"er2"}', f'{{"client_secret": "{MASK}"}}'),
        ("Authorization: Bearer hunter2hunter2", f"Authorization: Bearer {MASK}"),
        ("a://${env:U}:${env:P:-hunter2}@h", f"a://${{env:U}}:{MASK}@h"),
    ],
)
def test_credentials_in_other_texts(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u@h/d",
        "postgresql://u:${env:PG}@h",
        "https://${secret:a/b}@h",
        "SELECT token::text FROM t JOIN u ON t.key = u.key",
        "me@example.com",
        "10.0.0.1:9000",
        "basic orders of the shop",
        "https://example.com/a@b",
    ],
)
def test_texts_without_credentials_stay(text: str) -> None:
    assert without_credentials(text) == text


def test_secrets_by_type() -> None:
    class Auth(BaseModel):
        pin: SecretStr
        user: str

    class Connection(BaseModel):
        answer: SecretStr | None = None
        auth: Auth | None = None
        host: str = ""

    declared = list(secret_fields(Connection))
    assert declared == [("answer",), ("auth", "pin")]
    shown = masked({"answer": "hunter2", "auth": {"pin": "hunter2", "user": "me"}}, (), declared)
    assert shown == {"answer": MASK, "auth": {"pin": MASK, "user": "me"}}


def test_literal_secrets_are_those_written_out() -> None:
    connection = {
        "password": "hunter2",
        "token": "${env:T}",
        "api_key": "",
        "secret": None,
        "url": "https://u:p@h",
        "nested": [{"key": 5}],
        "username": "etl",
        "passwordless": True,
    }
    assert literal_secrets(connection) == [("password",), ("url",), ("nested", 0, "key")]


PLAIN = {"dsn", "tunnel.key", "tunnel.host_key", "ssl_key", "auth.login_token"}
"""Paths of files, a fingerprint, where an answer has the token, and a name that may not hold a login."""


def named_like_secrets(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    for name, info in model.model_fields.items():
        at = (*path, info.alias or name)
        if is_secret_name(at[-1]):
            yield ".".join(at), info.annotation
        inner = model_in(info.annotation)
        if inner is not None and len(at) < 4:
            yield from named_like_secrets(inner, at)


@pytest.mark.parametrize("protocol", [info.protocol for info in registry.protocols() if info.installed])
def test_models_hold_secrets_as_such(protocol: str) -> None:
    """So that no repr, and no validation error, shows one."""
    for key, annotation in named_like_secrets(registry.load(protocol).connection):
        assert "SecretStr" in str(annotation) or key in PLAIN, key


def test_a_secret_that_yaml_takes_for_something_else_is_masked_whole() -> None:
    assert masked({"password": {"caNary": None}, "tokens": ["caNary"]}, ()) == {
        "password": MASK,
        "tokens": MASK,
    }
    assert masked("${caNary:of}", ("password",)) == MASK
    assert masked("-----BEGIN OPENSSH PRIVATE KEY-----\ncaNary", ("tunnel", "key_file")) == MASK
