"""Values of SOAP results: each as its XSD type has it, or an error.

zeep takes a value that does not fit its type for a missing one, reads what is no boolean as false, cuts
times after six digits and texts at an element in them, makes an object without values of one that is nil or
elsewhere, and tuples of years; no setting of it tells. So its two readers of values are wrapped here, and are
what they were outside of `exact_values`. Types: https://www.w3.org/TR/xmlschema-2/
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
from zeep.xsd.types.builtins import Boolean
from zeep.xsd.types.complex import ComplexType
from zeep.xsd.types.simple import AnySimpleType

from atlas_etl.errors import SourceError

_is_exact: ContextVar[bool] = ContextVar("exact_values", default=False)
_BOOLEANS = frozenset({"true", "false", "1", "0"})
_FINER = re.compile(r"\.\d{6}0*[1-9]")  # than a microsecond
_EXACT = (str, bytes, bool, int, float, Decimal, date, time, list)  # all others are kept as they are written
_REFERENCES = ("href", "ref", "{http://www.w3.org/2003/05/soap-encoding}ref")
_parse = AnySimpleType.parse_xmlelement
_parse_complex = ComplexType.parse_xmlelement

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
    if len(element):
        raise _unfit(self, element)
    if element.text is None:
        return found
    text = element.text.strip()
    is_number = isinstance(found, int | float | Decimal) and not isinstance(found, bool)
    is_odd = is_number and (not math.isfinite(found) or "_" in text)
    if found is None or is_odd or (isinstance(self, Boolean) and text not in _BOOLEANS):
        raise _unfit(self, element)
    is_finer = isinstance(found, datetime | time) and _FINER.search(text)
    return text if is_finer or not isinstance(found, _EXACT) else found


def _parsed_complex(self: ComplexType, element: etree._Element, *args: object, **kwargs: object) -> object:
    if _is_exact.get():
        if element.get(NIL) in TRUE:
            return None
        if not len(element) and any(element.get(name, "").startswith("#") for name in _REFERENCES):
            name = etree.QName(element).localname
            raise SourceError(
                f"{name!r} refers to another element of the answer, which is not read",
                hint="have the service answer with its values in place; nothing was loaded",
                code="soap_value",
                column=name,
            )
    return _parse_complex(self, element, *args, **kwargs)


def _unfit(kind: AnySimpleType, element: etree._Element) -> SourceError:
    name = etree.QName(element).localname
    return SourceError(
        f"a value of {name!r} is no {kind.name or 'value'} that a row can hold",
        hint="ask the service for other rows by `arguments`; nothing was loaded",
        code="soap_value",
        column=name,
    )


AnySimpleType.parse_xmlelement = _parsed
ComplexType.parse_xmlelement = _parsed_complex
