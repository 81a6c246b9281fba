"""The charset of an answer's text: the one that is set, or that its header names, or else UTF-8."""

from __future__ import annotations

from email.message import Message

from atlas_etl.config.fields import check_encoding
from atlas_etl.connectors.http._messages import Response
from atlas_etl.errors import SourceError

_UTF_8 = "utf-8"
_AS_BROWSERS = {"iso8859-1": "cp1252"}  # https://encoding.spec.whatwg.org/#names-and-labels


def text_of(response: Response, where: str, *, form: str, encoding: str | None) -> bytes:
    """The content of an answer in UTF-8; of XML, which names its charset itself, as it is.

    `encoding` is what a definition says that it is in. JSON that is UTF-8 is read so whatever a header says
    (RFC 8259, sections 8.1 and 11). Raises SourceError (`unknown_charset`, `charset_in_doubt`,
    `invalid_text`).
    """
    content, is_json = response.content, form in ("json", "jsonl")
    if form == "xml" or (is_json and encoding is None and _is_utf_8(content)):
        return content
    named = _named(response.headers.get("content-type", ""))
    codec = encoding or _codec(named or _UTF_8, where)
    if encoding is None and codec != _UTF_8 and not content.isascii() and _is_utf_8(content):
        raise SourceError(
            f"{where} says that its text is {named}, and it looks like UTF-8",
            hint=f"look at it, and set `encoding` of the resource to `utf-8` or `{codec}`",
            code="charset_in_doubt",
        )
    try:
        return content.decode(codec).encode()
    except UnicodeError as failure:
        raise _undecodable(where, codec, failure, content, is_told=bool(encoding or named)) from None


def _named(content_type: str) -> str | None:
    """What the header says (RFC 9110, section 8.3.2)."""
    header = Message()
    header["Content-Type"] = content_type
    found = header.get_param("charset")
    return found.strip() or None if isinstance(found, str) else None


def _codec(name: str, where: str) -> str:
    """Raises SourceError (`unknown_charset`) where Python knows none of this name."""
    try:
        found = check_encoding(name)
    except ValueError:
        raise SourceError(
            f"{where} says that its text is {name[:40]!r}, which is no known charset",
            hint="set `encoding` of the resource to the one that it is, e.g. utf-8",
            code="unknown_charset",
        ) from None
    return _AS_BROWSERS.get(found, found)


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
