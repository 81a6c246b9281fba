"""Which addresses are on the internet, and not inside the network that this machine is in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# What older versions of Python take for public: protocols' own (RFC 6890), translation of one's own (8215).
_INWARD = (ip_network("192.0.0.0/24"), ip_network("64:ff9b:1::/48"))
_TRANSLATED = IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an address of IPv4


def is_public(address: str) -> bool:
    """Whether an address is public, and so is one of IPv4 that it stands for. Raises ValueError."""
    found = ip_address(address.partition("%")[0])
    return all(each.is_global and not any(each in network for network in _INWARD) for each in _all(found))


def _all(found: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """An address, and those that a gateway takes it for."""
    if isinstance(found, IPv4Address):
        return [found]
    inner = [found.ipv4_mapped, found.sixtofour]
    if found in _TRANSLATED:
        inner.append(IPv4Address(found.packed[-4:]))
    return [found, *(each for each in inner if each is not None)]
