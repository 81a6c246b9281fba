"""What a SOAP service says went wrong: a fault, which comes with a status 500, 400 or 200."""

from __future__ import annotations

import codecs
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from atlas_etl.connectors.http._messages import Request, Response, shown
from atlas_etl.connectors.http._network.failures import StatusError, status_error, without_values
from atlas_etl.connectors.http._network.rate_limits import asked_wait
from atlas_etl.errors import SourceError

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_STATUSES = frozenset({200, 201, 202, 400, 500})
# https://www.w3.org/TR/2000/NOTE-SOAP-20000508/#_Toc478383510, https://www.w3.org/TR/soap12-part1/#faultcodes
_MAY_PASS = frozenset({"Server", "Receiver"})
_LOGIN = frozenset({"FailedAuthentication", "InvalidSecurity", "InvalidSecurityToken", "FailedCheck"})


def refusal(request: Request, response: Response) -> SourceError | None:
    """What an answer says went wrong, by its fault or its status; None for one to be read."""
    content = response.content
    if response.status in _STATUSES and (b"Fault" in content or content.startswith(_UTF_16)):
        fault = _fault(response.content)
        if fault is not None:
            return _described(request, response, fault)
    return status_error(request, response) if response.status >= 300 else None


def _fault(content: bytes) -> Element | None:
    try:
        root = defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    body = next((child for child in root if _name(child) == "Body"), None)
    return next((child for child in body if _name(child) == "Fault"), None) if body is not None else None


def _described(request: Request, response: Response, fault: Element) -> SourceError:
    codes = [
        (element.text or "").strip().rpartition(":")[2]
        for element in fault.iter()
        if _name(element) in ("faultcode", "Value")
    ]
    texts = (element.text for element in fault.iter() if _name(element) in ("faultstring", "Text"))
    text = next((text for text in texts if text and text.strip()), "it says no more")
    code = next((code for code in reversed(codes) if code.replace(".", "").isidentifier()), "Fault")
    may_pass = bool(codes) and codes[0] in _MAY_PASS and not _LOGIN.intersection(codes)
    hint = "check the operation's `arguments`; nothing was loaded"
    if _LOGIN.intersection(codes):
        hint = "check the credentials under `security` or `auth`"
    failure = StatusError(
        f"{shown(request.url)} answered with the fault {code[:40]}: {without_values(text, '')}",
        hint=hint,
        code="soap_fault",
        retryable=may_pass,
    )
    failure.wait = asked_wait(response.headers)
    return failure


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
