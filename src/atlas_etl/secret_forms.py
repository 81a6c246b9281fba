"""Every way in which a text that must not be shown may be written: escaped, as Python shows it, in base64."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from html import escape
from urllib.parse import quote, quote_plus

SHORTEST = 4  # characters: a shorter text is found everywhere
_LONG_LINE = 16  # of a PEM text, whose lines may be joined otherwise
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token)\s+")


def parts_of(secret: str) -> Iterator[str]:
    """A secret, and what of it is one by itself: without its scheme, and lines of a PEM text."""
    secret = secret.strip()
    if "-----BEGIN" not in secret:
        yield secret
        yield _SCHEME.sub("", secret, count=1) if _SCHEME.match(secret) else secret
        return
    for line in secret.replace("\\n", "\n").splitlines():
        if len(line) >= _LONG_LINE and "-----" not in line:
            yield line.strip()


def written_anyhow(
    secrets: Iterable[str],
    placeholder: str,
    *,
    escaped: Callable[[bytes], bytes] = re.escape,
    shortest_base64: int = 4,
) -> bytes:
    """A pattern of these texts however they are written, but for what is a part of the placeholder.

    `escaped` makes the pattern of one form. Base64 of fewer characters than `shortest_base64` is left out.
    """
    plain, encoded = set[bytes](), set[bytes]()
    for secret in secrets:
        plain.update(_forms(secret))
        encoded.update(form for form in _in_base64(secret) if len(form) >= shortest_base64)
    encoded = {form for form in encoded if form not in placeholder.encode()}
    # The characters beside it hold bits of it.
    inside = (
        b"|[A-Za-z0-9+/_-]?(?:" + _any_of(encoded, re.escape) + b")[A-Za-z0-9+/_-]?={0,2}" if encoded else b""
    )
    return _any_of(plain, escaped) + inside


def _any_of(texts: Iterable[bytes], escaped: Callable[[bytes], bytes]) -> bytes:
    return b"|".join(map(escaped, sorted(texts, key=len, reverse=True)))


def _forms(secret: str) -> Iterator[bytes]:
    """How it may be written where text is escaped."""
    in_json = json.dumps(secret)[1:-1]
    found = {
        secret,
        in_json,
        json.dumps(secret, ensure_ascii=False)[1:-1],
        in_json.replace("/", "\\/"),
        json.dumps(in_json)[1:-1],
        escape(secret),
        escape(secret, quote=False),
        # As Python shows texts and bytes, and as SQL and YAML quote them.
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(secret.encode("utf-8", "surrogatepass"))[2:-1],
        secret.replace("'", "''"),
    }
    for written in (
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret, safe=":/?&=@+,"),
    ):
        found |= {written, re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), written), quote(written)}
    for form in found:
        yield form.encode("utf-8", "surrogatepass")


def _in_base64(secret: str) -> Iterator[bytes]:
    """The characters that it makes in base64 wherever it begins, without those that others have a part in."""
    raw = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        written = base64.b64encode(b"\0" * before + raw).rstrip(b"=")
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        yield from (written[first:last], written[first:last].translate(bytes.maketrans(b"+/", b"-_")))
