"""Whom a database session trusts by default: servers of this machine, and others by their certificates."""

from __future__ import annotations

from ipaddress import ip_address


def on_this_machine(host: str) -> bool:
    """Whether it is a loopback address, `localhost`, or a Unix socket, as libpq writes them.

    Of a list of hosts (`a,b`), each one has to be.
    """
    return all(_is_local(each.strip()) for each in host.split(","))


def system_authorities() -> str:
    """The file of the certificate authorities that this system, or else Mozilla, trusts (PEM).

    libpq's own `system` would be those of the OpenSSL that a wheel was built with, which has none.
    """
    import ssl  # most sessions are of this machine, or know their authorities

    import certifi

    return ssl.get_default_verify_paths().cafile or certifi.where()


def _is_local(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return True
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or bool(
        (mapped := getattr(address, "ipv4_mapped", None)) and mapped.is_loopback
    )
