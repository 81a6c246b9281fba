"""Digest authentication (RFC 7616), pure: challenge and request go in, the header that answers comes out."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from urllib.parse import urlsplit

from msgspec import Struct

from atlas_etl.connectors.http._auth.signing import Outgoing

_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)\s+(?=[\w*-]+\s*=)")
_PARAMETER = re.compile(r'([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_HASHES: Mapping[str, Callable[[bytes], hashlib._Hash]] = {  # the strongest first
    "SHA-512-256": partial(hashlib.new, "sha512_256"),
    "SHA-256": hashlib.sha256,
    "MD5": partial(hashlib.md5, usedforsecurity=False),
}
_SESSION = "-SESS"


class Challenge(Struct, frozen=True):
    """What a server asks to be answered."""

    realm: str
    nonce: str
    algorithm: str  # in capitals
    given_algorithm: str | None
    qop: str | None  # auth or auth-int; None: as RFC 2069 has it
    opaque: str | None


def challenge_of(header: str) -> Challenge | None:
    """The strongest challenge in headers `WWW-Authenticate`, joined by commas; None: none can be answered."""
    found = [each for each in map(_read, _digests(header)) if each is not None]
    strength = list(_HASHES)
    return min(found, key=lambda each: strength.index(each.algorithm.removesuffix(_SESSION)), default=None)


def answer(challenge: Challenge, username: str, password: str, request: Outgoing, *, count: int) -> str:
    """The header `Authorization` of the request which is the `count`th with the challenge's nonce.

    Characters beyond ASCII are UTF-8's bytes, as a header's latin-1 writes them.
    """
    parts = urlsplit(request.url)
    uri = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    digest = _HASHES[challenge.algorithm.removesuffix(_SESSION)]

    def hashed(*texts: str) -> str:
        return digest(":".join(texts).encode()).hexdigest()

    cnonce, counted = secrets.token_hex(16), f"{count:08x}"
    who = hashed(username, challenge.realm, password)
    if challenge.algorithm.endswith(_SESSION):
        who = hashed(who, challenge.nonce, cnonce)
    what = [request.method, uri]
    if challenge.qop == "auth-int":
        what.append(digest(request.body).hexdigest())
    middle = [counted, cnonce, challenge.qop] if challenge.qop is not None else []
    given = {
        "username": _quoted(username),
        "realm": _quoted(challenge.realm),
        "nonce": _quoted(challenge.nonce),
        "uri": _quoted(uri),
        "response": _quoted(hashed(who, challenge.nonce, *middle, hashed(*what))),
        "algorithm": challenge.given_algorithm,
        "opaque": _quoted(challenge.opaque) if challenge.opaque is not None else None,
    }
    if challenge.qop is not None:
        given |= {"qop": challenge.qop, "nc": counted}
    if challenge.qop is not None or challenge.algorithm.endswith(_SESSION):
        given["cnonce"] = _quoted(cnonce)
    told = ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)
    return f"Digest {told}".encode().decode("latin-1")


def without_digest(header: str) -> str | None:
    """What a person should know where such headers have no challenge that can be answered."""
    if challenge_of(header) is not None:
        return None
    known = f"{', '.join(_HASHES)}, with qop auth, auth-int or none"
    offered = ", ".join(dict.fromkeys(scheme[1].lower() for scheme in _SCHEME.finditer(header)))
    return f"it asks for {offered[:80] or 'no scheme'}, and for no digest that is known here: {known}"


def _digests(header: str) -> Iterator[str]:
    """The parameters of each challenge of this scheme."""
    schemes = list(_SCHEME.finditer(header))
    for at, scheme in enumerate(schemes):
        if scheme[1].lower() == "digest":
            end = schemes[at + 1].start() if at + 1 < len(schemes) else len(header)
            yield header[scheme.end() : end]


def _read(parameters: str) -> Challenge | None:
    found = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
        for name, quoted, plain in _PARAMETER.findall(parameters)
    }
    given = found.get("algorithm")
    algorithm = (given or "MD5").upper()
    offered = [each.strip().lower() for each in found.get("qop", "").split(",") if each.strip()]
    qop = next((each for each in ("auth", "auth-int") if each in offered), None)
    if algorithm.removesuffix(_SESSION) not in _HASHES or (offered and qop is None):
        return None
    if "nonce" not in found or "realm" not in found:
        return None
    return Challenge(found["realm"], found["nonce"], algorithm, given, qop, found.get("opaque"))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
