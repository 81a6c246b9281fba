"""Values of SOAP results: each as its XSD type has it, or an error.

zeep takes a value that does not fit its type for a missing one, reads what is no boolean as false, and cuts
times after six digits; no setting of it tells. So its one reader of simple values is wrapped here, and is
what it was outside of `exact_values`. Types: https://www.w3.org/TR/xmlschema-2/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, time

from lxml import etree
from zeep.xsd.types.builtins import Boolean
from zeep.xsd.types.simple import AnySimpleType

from atlas_etl.errors import SourceError

_is_exact: ContextVar[bool] = ContextVar("exact_values", default=False)
_BOOLEANS = frozenset({"true", "false", "1", "0"})
_FINER = re.compile(r"\.\d{6}0*[1-9]")  # than a microsecond
_parse = AnySimpleType.parse_xmlelement


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
    if element.text is None:
        return found
    text = element.text.strip()
    is_infinite = isinstance(found, float) and not math.isfinite(found)
    if found is None or is_infinite or (isinstance(self, Boolean) and text not in _BOOLEANS):
        raise _unfit(self, element)
    return text if isinstance(found, datetime | time) and _FINER.search(text) else found


def _unfit(kind: AnySimpleType, element: etree._Element) -> SourceError:
    name = etree.QName(element).localname
    return SourceError(
        f"a value of {name!r} is no {kind.name or 'value'} that a row can hold",
        hint="ask the service for other rows by `arguments`; nothing was loaded",
        code="soap_value",
        column=name,
    )


AnySimpleType.parse_xmlelement = _parsed
