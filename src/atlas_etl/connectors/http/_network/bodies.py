"""A response's body, decompressed to its end: one that stops early is an error, never half a body."""

from __future__ import annotations

import zlib

import pyarrow as pa

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_CHUNK = 1024 * 1024
_AS_IT_IS = frozenset({"identity", "none", "utf-8"})  # the latter two by mistake, as others bear as well
_PIECE = 16 * 1024  # bytes: what is left of one behind a member is copied for the next


class IncompleteBodyError(Exception):
    """A body that is cut off or damaged."""


class LargerBodyError(Exception):
    """A body that would be larger than it may be."""


class UnknownEncodingError(Exception):
    """A body that is encoded in a way that nobody asked for; its text is the name of that."""


def decoded(content: bytes, encoding: str, *, most: int) -> bytes:
    """The content without its encodings (RFC 9110, section 8.4), at most so many bytes.

    Raises IncompleteBodyError, LargerBodyError and UnknownEncodingError.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",") if part.strip()]):
        if name in ("gzip", "x-gzip"):
            content = _inflated(content, _GZIP, most)
        elif name == "deflate":
            # Some servers send it without zlib's header.
            bits = _ZLIB if content[:1] and content[0] & 0x0F == 8 else _RAW
            content = _inflated(content, bits, most)
        elif name == "zstd":
            content = _zstd(content, most)
        elif name not in _AS_IT_IS:
            raise UnknownEncodingError(name[:20])
    return content


def _inflated(content: bytes, bits: int, most: int) -> bytes:
    if not content:
        return b""
    found: list[bytes] = []
    size = at = 0
    stream = zlib.decompressobj(bits)
    while at < len(content):
        if stream.eof and content[at] == 0 and not any(content[at:]):
            break  # padding, which gzip and browsers pass over as well
        if stream.eof:  # a body may have several members
            stream = zlib.decompressobj(bits)
        piece = content[at : at + _PIECE]
        try:
            found.append(stream.decompress(piece, most - size + 1))
        except zlib.error:
            raise IncompleteBodyError("the answer's compression is damaged") from None
        at += len(piece) - len(stream.unused_data)
        size += len(found[-1])
        if size > most:
            raise LargerBodyError
    if not stream.eof:
        raise IncompleteBodyError("the answer ends before its compressed content does")
    return b"".join(found)


def _zstd(content: bytes, most: int) -> bytes:
    if not content:
        return b""
    found: list[bytes] = []
    size = 0
    try:
        with pa.input_stream(pa.BufferReader(content), compression="zstd") as stream:
            while chunk := stream.read(_CHUNK):
                found.append(chunk)
                size += len(chunk)
                if size > most:
                    raise LargerBodyError
    except (pa.ArrowException, OSError):
        raise IncompleteBodyError("the answer's compression is damaged or cut off") from None
    return b"".join(found)
