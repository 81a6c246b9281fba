"""Any SOAP service: an operation's results to rows, by zeep and the rooms of the http protocol.

zeep reads the WSDL, writes messages and reads results; every request goes through the family's own transport,
so that its limits, retries and origins hold. A login goes to the service's own origin: that of `endpoint`, or
of the WSDL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import cast

import msgspec
import requests
import zeep
from lxml import etree
from zeep.exceptions import Error as ZeepError
from zeep.exceptions import TransportError, ValidationError
from zeep.helpers import serialize_object
from zeep.wsdl.attachments import MessagePack
from zeep.wsse.username import UsernameToken

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.http._cassettes.recording import wiring
from atlas_etl.connectors.http._documents.formats import FORMATS, xml_ends_early
from atlas_etl.connectors.http._documents.paths import parse_path
from atlas_etl.connectors.http._documents.plain_values import named_values
from atlas_etl.connectors.http._messages import Request, Response, origin, shown
from atlas_etl.connectors.http._named import NamedResources, asked_in_body
from atlas_etl.connectors.http._pages import Records
from atlas_etl.connectors.http._reader import streams_of
from atlas_etl.connectors.http._reading import Reading
from atlas_etl.connectors.http._settings.connection import (
    ApiConnection,
    HttpConnection,
    Offered,
    Resource,
)
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.connectors.http._soap.encoding import ENCODING, SCHEMA
from atlas_etl.connectors.http._soap.envelope import Envelope
from atlas_etl.connectors.http._soap.faults import refusal
from atlas_etl.connectors.http._soap.settings import Call, SoapConnection
from atlas_etl.connectors.http._soap.values import exact_values
from atlas_etl.connectors.http._transport import Transport
from atlas_etl.connectors.http._wire import Network, Wire, dispose, session
from atlas_etl.errors import ConfigError, SourceError, nearest
from atlas_etl.model import ConnectionStatus

# zeep checks not all.
_OF_ODD_ANSWERS = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


class _Operation(Resource):
    """A call as a resource, whose body is the arguments."""

    operation: str


class SoapConnector(NamedResources):
    """Reads one SOAP service as an HTTP API whose requests zeep writes."""

    described_by = "operation"

    def __init__(self, config: SoapConnection, *, wiring: Callable[[HttpConnection], Wire] = Network) -> None:
        super().__init__(_as_http(config), protocol="soap", refusal=refusal, wiring=wiring)
        self._soap = config
        self._lock = threading.Lock()
        self._service: zeep.proxy.ServiceProxy | None = None

    def test(self) -> ConnectionStatus:
        count = len(dict(self._opened()))
        if self.config.resources:
            return super().test()
        return ConnectionStatus(f"{shown(self._soap.wsdl)} describes {count:,} operations")

    def _fetched(self, resource: Resource, first: Request, _: Reading) -> Generator[Records, None, None]:
        """One result. Raises ConfigError (`unknown_operation`, `soap_arguments`)."""
        service = self._opened()
        name = cast(_Operation, resource).operation
        operations = dict(service)
        if name not in operations:
            raise ConfigError(
                f"the service has no operation {name!r}",
                hint=nearest(name, operations) or f"it has {', '.join(sorted(operations)[:12])}",
                code="unknown_operation",
            )
        arguments = first.body if isinstance(first.body, Mapping) else {}
        try:
            service._binding.get(name).create(**arguments)
        except (ValidationError, TypeError, ValueError) as failure:
            raise ConfigError(
                f"the arguments of {name!r} do not fit: {type(failure).__name__}",
                hint=f"it takes {_signature(service, name)}",
                code="soap_arguments",
            ) from None
        try:
            with exact_values():
                result = operations[name](**arguments)
        except (ZeepError, etree.LxmlError, *_OF_ODD_ANSWERS) as failure:
            content = failure.content if isinstance(failure, TransportError) else None
            is_cut_off = content is not None and xml_ends_early(content)
            why = "it was cut off" if is_cut_off else type(failure).__name__
            raise SourceError(
                f"{shown(first.url)} answered {name!r} with what cannot be read: {why}",
                hint="it is read again; if it comes so each time, its server makes it so"
                if is_cut_off
                else "check that the answer is as the WSDL describes it; nothing of it was loaded",
                code="soap_answer",
                retryable=is_cut_off,
            ) from None
        if isinstance(result, MessagePack):
            result = result.root  # the other parts are no part of it
        path = parse_path(resource.records) if resource.records is not None else None
        content = _JSON.encode(serialize_object(result, dict))
        records = FORMATS["json"](path).read(content, f"the result of {name}")[1]
        if records:
            yield named_values(records, resource.value_column)

    def _opened(self) -> zeep.proxy.ServiceProxy:
        """The service as its WSDL describes it. Raises SourceError and ConfigError (`soap_endpoint`)."""
        with self._lock:
            if self._service is None:
                self._service = self._described()
            return self._service

    def _described(self) -> zeep.proxy.ServiceProxy:
        config = self._soap
        where = shown(config.wsdl)
        security = config.security
        token = None
        if security is not None:
            secret = security.password.get_secret_value()
            token = UsernameToken(security.username, secret, use_digest=security.digest)
        settings = zeep.Settings(forbid_dtd=True, forbid_entities=True, xml_huge_tree=True)
        carrier = _Carrier(self._transport, partial(_with_token, token) if token is not None else None)
        try:
            client = zeep.Client(config.wsdl, transport=carrier, settings=settings, plugins=[Envelope()])
        except (ZeepError, etree.LxmlError, ValueError, KeyError) as failure:
            raise _unreadable(where, failure) from None
        try:
            service = client.bind(config.service, config.port)
        except (ZeepError, ValueError, KeyError):
            raise SourceError(
                f"{where} has no such service or port",
                hint="check `service` and `port`, or leave them out",
                code="wsdl",
            ) from None
        if service is None:
            raise _unreadable(where, ZeepError("no service"))
        address = str(service._binding_options.get("address"))
        if config.endpoint is not None:
            service._binding_options["address"] = config.endpoint
        elif origin(address) != origin(config.wsdl):
            raise ConfigError(
                f"{where} says that the service is at {shown(address)}, which is elsewhere",
                hint="if that is meant, set `endpoint` to its address",
                code="soap_endpoint",
            )
        return service


class _Carrier(zeep.Transport):  # type: ignore[misc]  # zeep has no types
    """Carries zeep's requests by the family's transport; files are not read."""

    def __init__(self, transport: Transport, seal: Callable[[bytes], bytes] | None) -> None:
        """`seal` is that of the requests that are posted."""
        super().__init__()
        self._by = transport
        self._seal = seal

    def load(self, url: str) -> bytes:
        if url == ENCODING:
            return SCHEMA
        return self._by.fetch(Request(_web(url))).content

    def get(self, address: str, params: Mapping[str, str], headers: Mapping[str, str]) -> requests.Response:
        return _as_zeep_reads(
            self._by.fetch(Request(_web(address), params=tuple(params.items()), headers=headers))
        )

    def post(self, address: str, message: bytes, headers: Mapping[str, str]) -> requests.Response:
        response = self._by.fetch(
            Request(_web(address), "POST", headers=headers, content=message, seal=self._seal)
        )
        if not response.content:  # zeep would take it for a result without rows
            raise SourceError(
                f"{shown(address)} answered {response.status} without a result",
                hint="the service may work on it still: ask for less at once, or sync later",
                code="soap_answer",
            )
        return _as_zeep_reads(response)


def _with_token(token: UsernameToken, message: bytes) -> bytes:
    """The message with a nonce and a time of its own, where the password goes as a digest."""
    envelope, _ = token.apply(etree.fromstring(message), {})
    return cast(bytes, etree.tostring(envelope, xml_declaration=True, encoding="utf-8"))


def _web(url: str) -> str:
    if not url.lower().startswith(("http://", "https://")):
        raise SourceError(
            "the WSDL leads to a file, which is not read",
            hint="have its imports be addresses of the web",
            code="refused_redirect",
        )
    return url


def _as_zeep_reads(response: Response) -> requests.Response:
    made = requests.Response()
    made.status_code, made.url = response.status, response.url
    made.headers.update({name: text for name, text in response.headers.items() if name != "content-encoding"})
    made._content = response.content
    return made


def _unreadable(where: str, failure: Exception) -> SourceError:
    return SourceError(
        f"{where} gives what cannot be read as SOAP or WSDL: {type(failure).__name__}",
        hint="check `wsdl`, and that the answer is as the WSDL describes it",
        code="wsdl",
    )


def _signature(service: zeep.proxy.ServiceProxy, name: str) -> str:
    return str(service._binding.get(name).input.signature())[:200] or "none"


def _as_json(value: object) -> object:
    """What msgspec has no form for, as the text that XML has."""
    if isinstance(value, etree._Element):
        return etree.tostring(value, encoding="unicode")
    return str(value)


_JSON = msgspec.json.Encoder(decimal_format="number", enc_hook=_as_json)


def _as_http(config: SoapConnection) -> HttpConnection:
    shared = {name: getattr(config, name) for name in ApiConnection.model_fields}
    calls: dict[str, Resource] = {name: _operation(config, call) for name, call in config.resources.items()}
    return HttpConnection(**shared, base_url=config.endpoint or config.wsdl, resources=calls)


def _operation(config: SoapConnection, call: Call) -> _Operation:
    asked = call.incremental
    made = _Operation(
        path=config.endpoint or config.wsdl,
        method="POST",
        body=call.arguments,
        operation=call.operation,
        records=call.records,
        pagination=Pagination(type="none"),
        incremental=asked_in_body(asked, asked.argument, asked.end_argument),
    )
    own = set(Offered.model_fields) - {"incremental"}
    return made.model_copy(update={name: getattr(call, name) for name in own})


ADAPTER = Adapter(
    connection=SoapConnection,
    client=session,
    dispose=dispose,
    thread_bound=True,  # a session is not made for several
    connector=SoapConnector,
    taped=lambda config, tape: SoapConnector(config, wiring=wiring(tape, config.security)),
    default_streams=lambda config: streams_of(config.resources),
)
