"""What an answer's body holds: JSON, JSON lines, CSV or XML, each as JSON records.

CSV and XML know text only. A cell that is written as JSON writes a number, `true` or `false` becomes one, so
that types are found as in JSON; `007` and `1,5` stay text. An empty cell is null.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import errors as expat_errors

import defusedxml.ElementTree
import msgspec
from defusedxml import DefusedXmlException

from atlas_etl.connectors.http._documents.paths import EVERY, Path
from atlas_etl.connectors.http._documents.records import Document, lines
from atlas_etl.connectors.http._documents.where_records import (
    answered_errors,
    is_empty_list,
    records_path,
    says_failure,
)
from atlas_etl.errors import SourceError

# A page of a login or of a proxy, or an error: header and rows of it would be nonsense, or none.
_OTHER_THAN_CSV = re.compile(r"\s*(?:<(?:!doctype|html|\?xml)\b|<!--|(\{\s*\"|\[\s*\{))", re.IGNORECASE)
_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?|true|false")
_LONGEST_CELL = 2**31 - 1  # of characters; a whole answer has its own limit, and Python's 128 KiB are less
_ERRORS = ("errors",)
_BETWEEN_COLUMNS = ",;\t|"
_NULL = msgspec.Raw(b"null")
_ENDS_EARLY = frozenset(
    expat_errors.codes[each]
    for each in (
        expat_errors.XML_ERROR_NO_ELEMENTS,
        expat_errors.XML_ERROR_UNCLOSED_TOKEN,
        expat_errors.XML_ERROR_PARTIAL_CHAR,
        expat_errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
)

Answer = tuple[Document | None, list[msgspec.Raw]]
NOTHING: Answer = (None, [])


csv.field_size_limit(_LONGEST_CELL)


class Format(Protocol):
    """Reads the answers of one resource."""

    def read(self, content: bytes, where: str) -> Answer:
        """The document, where it is JSON, and its records. `content` is in UTF-8. Raises SourceError."""


class _Json:
    """A document with its records at a path, which the first answer shows where it is not given."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._is_given = path is not None
        self._was_list = False  # the document itself, in an answer before

    def read(self, content: bytes, where: str) -> Answer:
        return self._read(Document(content, where), where)

    def _read(self, document: Document, where: str) -> Answer:
        if self._path is None:
            if is_empty_list(document):
                return document, []
            self._path = records_path(document, where)
        try:
            records = document.records(self._path)
        except SourceError:
            if self._is_given or not is_empty_list(document):
                raise
            return document, []  # behind pages that had records
        is_one = document.is_one(records)
        if (is_one and self._was_list) or (not records and says_failure(document)):
            raise answered_errors(where)
        self._was_list |= not self._path and bool(records) and not is_one
        return document, records


class LenientJson(_Json):
    """A list of records that is left out is an empty one."""

    def _read(self, document: Document, where: str) -> Answer:
        if self._path is None or not document.lacks(self._path):
            return super()._read(document, where)
        if document.holds_several(_ERRORS):
            raise answered_errors(where)
        return document, []


class _Lines:
    """A record on each line (https://jsonlines.org)."""

    def __init__(self, _: Path | None) -> None: ...

    def read(self, content: bytes, where: str) -> Answer:
        return None, lines(content, where)


class _Csv:
    """RFC 4180 with a header; where that has no comma, it shows what else is between columns."""

    def __init__(self, _: Path | None) -> None: ...

    def read(self, content: bytes, where: str) -> Answer:
        text = content.decode("utf-8-sig")
        if (other := _OTHER_THAN_CSV.match(text)) is not None:
            raise _malformed(where, "CSV", ValueError(f"it is {'JSON' if other[1] else 'HTML or XML'}"))
        header_line = text.partition("\n")[0]
        between = next((each for each in _BETWEEN_COLUMNS if each in header_line), ",")
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True))
        except csv.Error as failure:
            raise _malformed(where, "CSV", failure, is_cut_off="unexpected end" in str(failure)) from None
        if not rows:
            return None, []
        header, *cells = rows
        if len(set(header)) != len(header) or "" in header:
            why = ValueError("its header names a column twice, or not at all")
            raise _malformed(where, "CSV", why, is_cut_off=not cells)
        cells = [row for row in cells if row]  # a blank line is none
        uneven = [at for at, row in enumerate(cells) if len(row) != len(header)]
        if uneven:
            is_last = uneven == [len(cells) - 1] and len(cells[-1]) < len(header)
            why = ValueError("a row has not as many cells as the header")
            raise _malformed(where, "CSV", why, is_cut_off=is_last)
        return None, [_record(dict(zip(header, map(_cell, row), strict=True))) for row in cells]


class _Xml:
    """Elements as objects: children by their names, repeated ones as lists, attributes as `@name`, text
    around children, joined, as `#text`.

    The path names elements below the root, each meaning all of that name; without one, the root's children
    are the records. Entities and external references are refused.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path if path is not None else (EVERY,)

    def read(self, content: bytes, where: str) -> Answer:
        try:  # as text, of which nobody looks at the charset that it declares
            found = [defusedxml.ElementTree.fromstring(content.decode())]
        except ParseError as failure:
            raise _malformed(where, "XML", failure, is_cut_off=failure.code in _ENDS_EARLY) from None
        except DefusedXmlException:
            why = ValueError("it declares entities, which are not read")
            raise _malformed(where, "XML", why) from None
        except ValueError as failure:
            raise _malformed(where, "XML", failure) from None
        if _name(found[0].tag).lower() == "html":
            raise _malformed(where, "XML", ValueError("it is HTML"))
        for step in self._path:
            found = [child for element in found for child in element if step in (EVERY, _name(child.tag))]
        try:
            return None, [_record(_members(element)) for element in found]
        except RecursionError:
            raise _malformed(where, "XML", ValueError("it is nested too deeply")) from None


FORMATS: dict[str, Callable[[Path | None], Format]] = {
    "json": _Json,
    "jsonl": _Lines,
    "csv": _Csv,
    "xml": _Xml,
}
MEDIA_TYPES: Mapping[str, str] = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "xml": "application/xml",
}


def xml_ends_early(content: bytes) -> bool:
    """Whether a document of XML ends before its time, and may be whole the next time."""
    try:
        defusedxml.ElementTree.fromstring(content)
    except ParseError as failure:
        return failure.code in _ENDS_EARLY
    except (DefusedXmlException, ValueError):
        return False
    return False


def _record(members: Mapping[str, object]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(members))


def _cell(text: str) -> msgspec.Raw:
    if not text:
        return _NULL
    return msgspec.Raw(text.encode() if _PLAIN.fullmatch(text) else msgspec.json.encode(text))


def _members(element: Element) -> dict[str, object]:
    children: dict[str, list[object]] = defaultdict(list)  # attributes among them
    for name, value in element.attrib.items():
        children[f"@{_name(name)}"].append(_cell(value))
    for child in element:
        has_more = len(child) > 0 or bool(child.attrib)
        children[_name(child.tag)].append(_members(child) if has_more else _cell((child.text or "").strip()))
    found: dict[str, object] = {
        name: several[0] if len(several) == 1 else several for name, several in children.items()
    }
    text = "".join((element.text or "", *(child.tail or "" for child in element))).strip()
    if text:
        found["#text"] = _cell(text)
    return found


def _name(tag: str) -> str:
    """A name without its namespace."""
    return tag.rpartition("}")[2]


def _malformed(where: str, form: str, failure: Exception, *, is_cut_off: bool = False) -> SourceError:
    """What ends before its time may be whole the next time; what is wrong in itself is wrong again."""
    return SourceError(
        f"{where} answered with what is not {form}: {str(failure)[:80]}",
        hint="an answer that was cut off is read again; if it comes so each time, its server makes it so"
        if is_cut_off
        else "check the address, or set `format` to what the API answers with",
        code=f"malformed_{form.lower()}",
        retryable=is_cut_off,
    )
