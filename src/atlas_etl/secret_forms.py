"""Every way in which a text that must not be shown may be written: escaped, base64, hex, any charset."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from html.entities import html5

SHORTEST = 4  # characters: a shorter text is found everywhere
_LONG_LINE = 16  # of a PEM text, whose lines may be joined otherwise
# A word begins behind what is no letter or digit, and behind an escape that ends with one.
_BEFORE = rb"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"
_BEHIND = rb"(?![A-Za-z0-9])"
_PERCENT = rb"%(?:25){0,3}"  # encoded up to four times
_BACKSLASH = rb"(?:\\|%(?:25){0,3}5[Cc])"
_OWN_WAYS = {
    " ": (rb"\+", _PERCENT + b"2[Bb]"),
    "'": (b"''",),
    "\\": (_BACKSLASH + b"{1,16}",),
    "\n": (_BACKSLASH + b"{1,16}n",),
    "\r": (_BACKSLASH + b"{1,16}r",),
    "\t": (_BACKSLASH + b"{1,16}t",),
}
_CHARSETS = ("cp1252", "latin-1", "iso8859-15", "cp1250", "cp1251", "koi8-r", "cp932", "gb18030")
_RUNS = re.compile(r"[\x00-\x7f]|[^\x00-\x7f]+")
_UNESCAPED = re.compile(r"[A-Za-z0-9_.-]+")
# Letters and digits, too, which nobody has to escape; what is no ASCII is found by its own ways.
_ESCAPED = re.compile(
    rb"&(?:amp;){0,3}#(?:0{0,6}([0-9]{1,3})|[xX]0{0,6}([0-7][0-9A-Fa-f]));"
    rb"|(?:%(?:25){0,3}|\\{1,16}(?:x|u00))([0-7][0-9A-Fa-f])"
)
_WORD = re.compile(rb"[^\s<>\"']+")
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token)\s+")


def parts_of(secret: str) -> Iterator[str]:
    """A secret, and what of it is one by itself: without its scheme, and lines of a PEM text."""
    secret = secret.strip()
    lines = secret.replace("\\n", "\n").splitlines() if "-----BEGIN" in secret else []
    if keys := [line.strip() for line in lines if len(line) >= _LONG_LINE and "-----" not in line]:
        yield from keys
        return
    yield secret
    yield _SCHEME.sub("", secret, count=1) if _SCHEME.match(secret) else secret


def written_anyhow(
    secrets: Iterable[str], placeholder: str, *, shortest_inside: int = 0, shortest_base64: int = 4
) -> bytes:
    """A pattern of these texts however they are written, but for what is a part of the placeholder.

    A secret of fewer characters than `shortest_inside` is found only where it is a word of its own; base64 of
    fewer than `shortest_base64` is left out.
    """
    plain, encoded = set[bytes](), set[bytes]()
    for secret in sorted(set(secrets), key=len, reverse=True):
        pattern = b"".join(map(_run, _RUNS.findall(secret)))
        plain.add(pattern if len(secret) >= shortest_inside else _BEFORE + pattern + _BEHIND)
        plain.update(map(re.escape, _in_other_bytes(secret)))
        encoded.update(form for form in _in_base64(secret) if len(form) >= shortest_base64)
    encoded = {form for form in encoded if form not in placeholder.encode()}
    # The characters beside it hold bits of it.
    inside = (
        b"|[A-Za-z0-9+/_-]?(?:" + _any_of([re.escape(form) for form in encoded]) + b")[A-Za-z0-9+/_-]?={0,2}"
    )
    return _any_of(plain) + (inside if encoded else b"")


def traces(secrets: Iterable[str], *, shortest_base64: int = 4) -> frozenset[bytes]:
    """Bytes of which each text has some that `written_anyhow` finds one of these in: cheap to look for first.

    Letters and digits that follow each other are never escaped. A secret without any leaves an empty trace,
    which every text has.
    """
    found = set[bytes]()
    for secret in secrets:
        found.add(max(_UNESCAPED.findall(secret), key=len, default="").encode())
        found.update(_in_other_bytes(secret))
        found.update(form for form in _in_base64(secret) if len(form) >= shortest_base64)
    return frozenset(found)


def replaced(pattern: re.Pattern[bytes], by: Callable[[re.Match[bytes]], bytes], content: bytes) -> bytes:
    """The content without what `pattern` finds, in words of which every letter may be escaped as well."""
    content = pattern.sub(by, content)
    if not is_escaped(content):
        return content
    return _WORD.sub(lambda word: _replaced_in(word[0], pattern, by), content)


def is_escaped(content: bytes) -> bool:
    """Whether any character of ASCII is written as its number."""
    return _ESCAPED.search(content) is not None


def _replaced_in(word: bytes, pattern: re.Pattern[bytes], by: Callable[[re.Match[bytes]], bytes]) -> bytes:
    if pattern.search(_ESCAPED.sub(_unescaped, word)) is None:
        return word
    plain, places, end = bytearray(), list[int](), 0  # places: where each byte begins in the word
    for escape in _ESCAPED.finditer(word):
        plain += word[end : escape.start()] + _unescaped(escape)
        places += range(end, escape.start())
        end = escape.end()
        places += [escape.start()] * (len(plain) - len(places))
    plain += word[end:]
    places += [*range(end, len(word)), len(word)]
    kept, end = bytearray(), 0
    for found in pattern.finditer(bytes(plain)):
        kept += word[places[end] : places[found.start()]] + by(found)
        end = found.end()
    return bytes(kept + word[places[end] :])


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = int(escape[1]) if escape[1] is not None else int(escape[2] or escape[3], 16)
    return bytes([code]) if code < 128 else escape[0]


def _any_of(patterns: Iterable[bytes]) -> bytes:
    longest_first: list[bytes] = sorted(patterns, key=len, reverse=True)
    return b"|".join(longest_first)


def _run(characters: str) -> bytes:
    """One character of ASCII, or others in a row: what cannot be read becomes U+FFFD, or `?`."""
    found = b"".join(map(_character, characters))
    if characters.isascii():
        return found
    unreadable = rb"(?:\xef\xbf\xbd){1,%d}|\?{%d}" % (4 * len(characters), len(characters))
    return b"(?:" + found + b"|" + unreadable + b")"


@lru_cache(maxsize=4096)
def _character(character: str) -> bytes:
    """One character, in each way of its own: programs escape some of a text's and leave others as they are.

    As JSON, Python, SQL, YAML, XML and URLs show it, also within each other. What repeats has a limit, so
    that no hostile text takes its time.
    """
    code, spellings = ord(character), _in_charsets(character)
    if character.isascii() and (character.isalnum() or character in "-_."):
        return character.encode()
    units = character.encode("utf-16-be", "surrogatepass")
    numbers = rf"#0{{0,6}}{code};".encode(), rb"#[xX]0{0,6}" + _hex(f"{code:x}") + b";"
    names = [name.encode() for name, text in html5.items() if text == character and name.endswith(";")]
    shown = [
        *map(re.escape, spellings),
        *(b"".join(_PERCENT + _hex(f"{byte:02x}") for byte in raw) for raw in spellings),
        rb"&(?:amp;){0,3}(?:" + _any_of([*numbers, *(re.escape(name) for name in names)]) + b")",
    ]
    found = [
        _BACKSLASH + rb"{0,16}(?:" + _any_of(shown) + b")",
        *(b"".join(_BACKSLASH + rb"{1,16}x" + _hex(f"{byte:02x}") for byte in raw) for raw in spellings),
        *(
            b"".join(escape + _hex(units[at : at + 2].hex()) for at in range(0, len(units), 2))
            for escape in (_BACKSLASH + rb"{1,16}u", _PERCENT + b"u")
        ),
        _BACKSLASH + rb"{1,16}(?:x|U0{0,6})" + _hex(f"{code:02x}"),
        *_OWN_WAYS.get(character, () if character.isascii() else _misread(character)),
    ]
    return b"(?:" + _any_of(found) + b")"


def _hex(digits: str) -> bytes:
    """Hexadecimal digits, in capitals or not."""
    return "".join(digit if digit.isdigit() else f"[{digit}{digit.upper()}]" for digit in digits).encode()


@lru_cache(maxsize=4096)
def _in_charsets(text: str) -> Collection[bytes]:
    """Its bytes in each charset that has all of it, UTF-8's first."""
    found = {text.encode("utf-8", "surrogatepass"): None}
    for charset in () if text.isascii() else _CHARSETS:
        with suppress(UnicodeEncodeError):
            found[text.encode(charset)] = None
    return found


def _misread(character: str) -> Iterator[bytes]:
    """What is shown of it where its bytes are taken for those of another charset."""
    raw = character.encode("utf-8", "surrogatepass")
    for charset in ("latin-1", "cp1252"):
        yield re.escape(raw.decode(charset, "replace").encode())


def _in_base64(secret: str) -> Iterator[bytes]:
    """The characters that it makes in base64 wherever it begins, without those that others have a part in."""
    for raw in (*_in_charsets(secret), *_in_utf16(secret)):
        for before in range(3):
            written = base64.b64encode(b"\0" * before + raw).rstrip(b"=")
            first = -(-before * 8 // 6)
            last = (before + len(raw)) * 8 // 6
            yield from (written[first:last], written[first:last].translate(bytes.maketrans(b"+/", b"-_")))


def _in_other_bytes(secret: str) -> Iterator[bytes]:
    """Its bytes in hexadecimal digits, all small or all capitals, and the bytes that it has in UTF-16."""
    for raw in _in_charsets(secret):
        digits = raw.hex().encode()
        yield from (digits, digits.upper())
    yield from _in_utf16(secret)


def _in_utf16(secret: str) -> frozenset[bytes]:
    """Its bytes in both orders, without a NUL at an end, which may be a part of what stands beside it."""
    orders = ("utf-16-le", "utf-16-be")
    return frozenset(secret.encode(order, "surrogatepass").strip(b"\0") for order in orders)
