"""The charset of an answer's text: set, or named by its header or by XML itself, or else UTF-8."""

from __future__ import annotations

import re
from email.message import Message

from atlas_etl.config.fields import check_encoding
from atlas_etl.connectors.http._messages import Response
from atlas_etl.errors import SourceError

_UTF_8 = "utf-8"
_AS_BROWSERS = {"iso8859-1": "cp1252"}  # https://encoding.spec.whatwg.org/#names-and-labels
_AS_MYSQL = {"utf8mb4": _UTF_8, "utf8mb3": _UTF_8}
_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']((?!utf-?16)[\w.-]+)["']""", re.IGNORECASE)


def text_of(response: Response, where: str, *, form: str, encoding: str | None) -> bytes:
    """The content of an answer in UTF-8.

    `encoding` is what a definition says that it is in. JSON that is UTF-8 is read so whatever a header says
    (RFC 8259, sections 8.1 and 11), and so is XML that does not say otherwise itself (XML 1.0, section
    4.3.3). Raises SourceError (`unknown_charset`, `charset_in_doubt`, `invalid_text`).
    """
    content = response.content
    if encoding is not None:
        return _decoded(content, encoding, where, is_told=True)
    own, is_utf_8 = _own(content, form), _is_utf_8(content)
    if is_utf_8 and own == _UTF_8:
        return content
    named = _named(response.headers.get("content-type", ""))
    told = [_codec(name, content, where) for name in (named, own) if name is not None]
    if is_utf_8 and (not told or _UTF_8 in told):
        return content
    codec, *others = [codec for codec in told if codec != _UTF_8] or [_UTF_8]
    found = _decoded(content, codec, where, is_told=named is not None)
    if is_utf_8 and found != content:
        raise _in_doubt(where, named or own, codec, "looks like UTF-8", _UTF_8)
    for other in others:
        if found != _decoded(content, other, where, is_told=True):
            raise _in_doubt(where, named, codec, f"says {own} in itself", other)
    return found


def _own(content: bytes, form: str) -> str | None:
    """What the content's format says: UTF-8 for all JSON, and for XML that shows no other."""
    if form != "xml":
        return _UTF_8 if form in ("json", "jsonl") else None
    if b"\0" in content[:4]:  # XML 1.0, appendix F
        return "utf-16-be" if content[:1] == b"\0" else "utf-16"
    declared = _DECLARED.match(content)
    return declared[1].decode().lower() if declared is not None else _UTF_8


def _named(content_type: str) -> str | None:
    """What the header says (RFC 9110, section 8.3.2)."""
    header = Message()
    header["Content-Type"] = content_type
    found = header.get_param("charset")
    return found.strip(" '") or None if isinstance(found, str) else None


def _codec(name: str, content: bytes, where: str) -> str:
    """Raises SourceError (`unknown_charset`) where nobody knows it, and letters are in doubt."""
    try:
        found = check_encoding(_AS_MYSQL.get(name.lower(), name))
    except ValueError:
        if content.isascii() and _is_utf_8(content):
            return _UTF_8
        raise SourceError(
            f"{where} says that its text is {name[:40]!r}, which is no known charset",
            hint="set `encoding` of the resource to the one that it is, e.g. utf-8",
            code="unknown_charset",
        ) from None
    return _AS_BROWSERS.get(found, found)


def _decoded(content: bytes, codec: str, where: str, *, is_told: bool) -> bytes:
    try:
        return content.decode(codec).removeprefix("\ufeff").encode()
    except UnicodeError as failure:
        raise _undecodable(where, codec, failure, content, is_told=is_told) from None


def _in_doubt(where: str, told: str | None, codec: str, why: str, other: str) -> SourceError:
    return SourceError(
        f"{where} says that its text is {told}, and it {why}",
        hint=f"look at it, and set `encoding` of the resource to `{other}` or `{codec}`",
        code="charset_in_doubt",
    )


def _is_utf_8(content: bytes) -> bool:
    """Whether it is plain text in UTF-8: UTF-16 has zeros in it, ISO-2022 escapes."""
    if b"\0" in content or b"\x1b" in content:
        return False
    try:
        return content.isascii() or bool(content.decode())
    except UnicodeDecodeError:
        return False


def _undecodable(
    where: str, codec: str, failure: UnicodeError, content: bytes, *, is_told: bool
) -> SourceError:
    """What ends before its time may be whole the next time; what is wrong in itself is wrong again."""
    is_cut_off = isinstance(failure, UnicodeDecodeError) and failure.end == len(content)
    told = "" if is_told else ", which it is without a charset in its Content-Type"
    return SourceError(
        f"{where} holds bytes that are no text in {codec}{told}",
        hint="set `encoding` of the resource to the charset that it is in, e.g. latin-1, cp1252 or utf-16",
        code="invalid_text",
        retryable=is_cut_off,
    )
