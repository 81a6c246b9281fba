"""Values of SOAP results: each as its XSD type has it, or an error.

zeep takes a value that does not fit its type for a missing one, reads what is no boolean as false, cuts
times after six digits, dates before their zone and texts at an element in them, makes an object without
values of one that is nil or elsewhere, and tuples of years, and leaves out attributes that the WSDL does not
have and text around elements; no setting of it tells. So its readers of values are wrapped here, and are what
they were outside of `exact_values`. Types: https://www.w3.org/TR/xmlschema-2/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final

from lxml import etree
from zeep.xsd.types.any import AnyType
from zeep.xsd.types.builtins import Boolean
from zeep.xsd.types.complex import ComplexType
from zeep.xsd.types.simple import AnySimpleType
from zeep.xsd.valueobjects import CompoundValue

from atlas_etl.errors import SourceError

_is_exact: ContextVar[bool] = ContextVar("exact_values", default=False)
_BOOLEANS = frozenset({"true", "false", "1", "0"})
_FINER = re.compile(r"\.\d{6}0*[1-9]")  # than a microsecond
_EXACT = (str, bytes, bool, int, float, Decimal, date, time, list)  # all others are kept as they are written
_LONGEST_DATE = len("2026-01-01")
_REFERENCES = ("href", "ref", "{http://www.w3.org/2003/05/soap-encoding}ref")
_parse = AnySimpleType.parse_xmlelement
_parse_complex = ComplexType.parse_xmlelement
_parse_any = AnyType.parse_xmlelement
# Of the message itself: https://www.w3.org/TR/xmlschema-1/#Instance_Document_Constructions
_OF_MESSAGES = frozenset(
    {
        "http://www.w3.org/2001/XMLSchema-instance",
        "http://schemas.xmlsoap.org/soap/envelope/",
        "http://schemas.xmlsoap.org/soap/encoding/",
        "http://www.w3.org/2003/05/soap-envelope",
        "http://www.w3.org/2003/05/soap-encoding",
        "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd",
    }
)

NIL: Final = "{http://www.w3.org/2001/XMLSchema-instance}nil"
TRUE: Final = ("true", "1")


@contextmanager
def exact_values() -> Iterator[None]:
    """Inside, values that do not fit are SourceErrors (`soap_value`), and finer times are their text."""
    token = _is_exact.set(True)
    try:
        yield
    finally:
        _is_exact.reset(token)


def _parsed(self: AnySimpleType, element: etree._Element, *args: object, **kwargs: object) -> object:
    if not _is_exact.get():
        return _parse(self, element, *args, **kwargs)
    try:
        found = _parse(self, element, *args, **kwargs)
    except (ArithmeticError, ValueError, TypeError):
        raise _unfit(self, element) from None
    is_all = len(args) < 2  # or the text of an object, which has the attributes
    if len(element) or (is_all and _refers(element)):
        raise _unfit(self, element)
    if is_all and (more := _attributes(element)):
        raise _undescribed(element, f"an attribute {next(iter(more))!r}")
    if element.text is None:
        return found
    text = element.text.strip()
    is_number = isinstance(found, int | float | Decimal) and not isinstance(found, bool)
    is_odd = is_number and (not math.isfinite(found) or "_" in text)
    if found is None or is_odd or (isinstance(self, Boolean) and text not in _BOOLEANS):
        raise _unfit(self, element)
    is_finer = isinstance(found, datetime | time) and _FINER.search(text)
    has_zone = type(found) is date and len(text) > _LONGEST_DATE
    return text if is_finer or has_zone or not isinstance(found, _EXACT) else found


def _parsed_complex(self: ComplexType, element: etree._Element, *args: object, **kwargs: object) -> object:
    """An object, with the attributes that the WSDL does not have as `@name`."""
    if not _is_exact.get():
        return _parse_complex(self, element, *args, **kwargs)
    described = {each.qname.text for _, each in self.attributes if each.name}
    takes_any = any(not each.name for _, each in self.attributes)
    attributes = _attributes(element)
    if element.get(NIL) in TRUE and not attributes:
        return None
    more = {} if takes_any else {key: text for key, text in attributes.items() if key not in described}
    if not len(element) and _refers(element):
        name = etree.QName(element).localname
        raise SourceError(
            f"{name!r} refers to another element of the answer, which is not read",
            hint="have the service answer with its values in place; nothing was loaded",
            code="soap_value",
            column=name,
        )
    has_text_alone = isinstance(getattr(self._element, "type", None), AnySimpleType)
    if not has_text_alone and "".join((element.text or "", *(child.tail or "" for child in element))).strip():
        raise _undescribed(element, "text beside its elements")
    if len(element) and not self.elements:
        raise _undescribed(element, f"an element {etree.QName(element[0]).localname!r}")
    found = _parse_complex(self, element, *args, **kwargs)
    if more and not isinstance(found, CompoundValue):
        raise _undescribed(element, f"an attribute {next(iter(more))!r}")
    for key, text in more.items():
        found.__values__[f"@{etree.QName(key).localname}"] = text
    return found


def _parsed_any(self: AnyType, element: etree._Element, *args: object, **kwargs: object) -> object:
    found = _parse_any(self, element, *args, **kwargs)
    if _is_exact.get() and len(element) and (found is None or isinstance(found, str)):
        raise _unfit(self, element)
    return found


def _attributes(element: etree._Element) -> dict[str, str]:
    """Those that are data."""
    return {
        key: text for key, text in element.attrib.items() if etree.QName(key).namespace not in _OF_MESSAGES
    }


def _refers(element: etree._Element) -> bool:
    return any(element.get(name, "").startswith("#") for name in _REFERENCES)


def _undescribed(element: etree._Element, what: str) -> SourceError:
    name = etree.QName(element).localname
    return SourceError(
        f"{name!r} has {what}, which the WSDL does not describe there",
        hint="have its makers correct the WSDL; nothing was loaded, for it would be lost",
        code="soap_value",
        column=name,
    )


def _unfit(kind: AnySimpleType | AnyType, element: etree._Element) -> SourceError:
    name = etree.QName(element).localname
    return SourceError(
        f"a value of {name!r} is no {kind.name or 'value'} that a row can hold",
        hint="ask the service for other rows by `arguments`; nothing was loaded",
        code="soap_value",
        column=name,
    )


AnySimpleType.parse_xmlelement = _parsed
ComplexType.parse_xmlelement = _parsed_complex
AnyType.parse_xmlelement = _parsed_any
