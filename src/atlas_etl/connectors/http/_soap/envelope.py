"""What of a SOAP answer is put right before zeep reads it, and what zeep would leave out without a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import zeep
from lxml import etree
from zeep.wsdl.messages.multiref import process_multiref

from atlas_etl.connectors.http._soap.encoding import ENCODING
from atlas_etl.connectors.http._soap.values import NIL, TRUE
from atlas_etl.errors import SourceError

_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_ARRAY_TYPE: Final = f"{{{ENCODING}}}arrayType"
_OFFSET: Final = f"{{{ENCODING}}}offset"  # of an array that is sent in part
_MOST_ELEMENTS = 10_000_000  # of an answer whose references are replaced by what they refer to


class Envelope(zeep.Plugin):  # type: ignore[misc]  # zeep has no types
    """Looks at each answer before it is read."""

    def ingress(
        self, envelope: etree._Element, http_headers: object, operation: zeep.wsdl.bindings.soap.SoapOperation
    ) -> tuple[etree._Element, object]:
        for body in envelope.iterchildren("{*}Body"):
            _put_in_place(body)
            # With several parts, zeep reads each; of others, the first element alone.
            if len(body) > 1 and not getattr(operation.output, "_is_body_wrapped", False):
                raise _unread(f"{len(body)} results in the place of one")
        for element in envelope.iter(etree.Element):
            _type_items(element)
            if element.text is None and len(element) == 0 and element.get(NIL) not in TRUE:
                element.text = ""  # empty and not nil, which zeep would take for nothing
        return envelope, http_headers


def _put_in_place(body: etree._Element) -> None:
    """Replace references by what they refer to, which stands behind the result (SOAP 1.1, section 5.1)."""
    targets = {f"#{child.get('id')}": child for child in body if child.get("id") is not None}
    used = {element.get("href") for element in body.iter(etree.Element)} & set(targets)
    if not used:
        return
    results = [child for child in body if f"#{child.get('id')}" not in used]
    sizes: dict[str, int | None] = {}
    if sum(_size(result, targets, sizes) for result in results) > _MOST_ELEMENTS:
        raise _unread("references that make too much of little")
    process_multiref(body)
    for element in body.iter(etree.Element):
        if f"#{element.get('id')}" in used:
            del element.attrib["id"]


def _size(
    element: etree._Element, targets: Mapping[str, etree._Element], sizes: dict[str, int | None]
) -> int:
    """How many elements it is with all that is referred to in it, whose sizes are found once each."""
    count = 0
    for each in element.iter(etree.Element):
        count += 1
        name = each.get("href")
        if name not in targets:
            continue
        if name not in sizes:
            sizes[name] = None
            sizes[name] = _size(targets[name], targets, sizes)
        found = sizes[name]
        if found is None:
            raise _unread("references in a circle")
        count += found
    return count


def _type_items(element: etree._Element) -> None:
    """An array says what its items are, which need not say so themselves (SOAP 1.1, section 5.4.2)."""
    kind, _, size = element.get(_ARRAY_TYPE, "").rpartition("[")
    count, is_counted = size.rstrip("]"), element.get(_OFFSET) is None
    if is_counted and count.isdigit() and element.get("href") is None and int(count) != len(element):
        raise _unread(f"{len(element):,} items of an array in the place of {int(count):,}")
    if kind.endswith(("]", ":anyType", ":ur-type")):
        return
    for child in element if kind else ():
        if child.get(_TYPE) is None:
            child.set(_TYPE, kind)


def _unread(what: str) -> SourceError:
    return SourceError(
        f"the service answered with {what}",
        hint="check that the answer is as the WSDL describes it; nothing of it was loaded",
        code="soap_answer",
    )
