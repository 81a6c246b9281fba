"""Servers that prove who they are: with a certificate of their own signing, which is its own authority."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers import mysql, postgres
from tests.servers.address import ServerAddress, Unavailable
from tests.servers.process import own, private_folder


@contextmanager
def serve_postgres(names: Sequence[str]) -> Iterator[tuple[ServerAddress, Path]]:
    """A PostgreSQL server for these names (`DNS:localhost`, `IP:127.0.0.1`), and its certificate."""
    with signed(names) as (certificate, key), postgres.private_server() as (_, address):
        with postgres.connect(address) as client:
            client.execute(f"ALTER SYSTEM SET ssl_cert_file = '{certificate}'".encode())
            client.execute(f"ALTER SYSTEM SET ssl_key_file = '{key}'".encode())
            client.execute("ALTER SYSTEM SET ssl = on")
            client.execute("SELECT pg_reload_conf()")
        yield address, certificate


@contextmanager
def serve_mysql(names: Sequence[str]) -> Iterator[tuple[ServerAddress, Path]]:
    """The same of MariaDB."""
    with (
        signed(names) as (certificate, key),
        mysql.private_server(f"--ssl-cert={certificate}", f"--ssl-key={key}") as (_, address),
    ):
        yield address, certificate


@contextmanager
def signed(names: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """A certificate for these names, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise Unavailable("no openssl: apt-get install openssl")
    with private_folder("atlas-tls-") as folder:
        certificate, key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=atlas",
             "-addext", f"subjectAltName={','.join(names)}", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        own(certificate)
        own(key)
        folder.chmod(0o755)  # clients read the certificate
        yield certificate, key
