"""A SOAP service with a real WSDL, made by hand: logins, faults, results as rows."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl import values
from atlas_etl.connectors.http._soap.settings import SoapConnection
from atlas_etl.connectors.http.soap import SoapConnector
from atlas_etl.errors import AtlasError, ConfigError, SourceError
from atlas_etl.model import Disposition, Stream
from tests.unit.connectors.http_api import Api, read, rows, sync

NAMESPACE = "urn:shop"
ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
ORDERS = Stream("orders", table="orders")

WSDL = """<?xml version="1.0"?>
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns:s="urn:shop" xmlns:x="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:shop" name="Shop">
  <types><x:schema targetNamespace="urn:shop" elementFormDefault="qualified">
    <x:element name="ListOrders"><x:complexType><x:sequence>
      <x:element name="since" type="x:string" minOccurs="0"/>
      <x:element name="shop" type="x:int" minOccurs="0"/>
    </x:sequence></x:complexType></x:element>
    <x:complexType name="Order"><x:sequence>
      <x:element name="id" type="x:long"/><x:element name="total" type="x:decimal"/>
      <x:element name="at" type="x:dateTime"/><x:element name="note" type="x:string" minOccurs="0"/>
    </x:sequence></x:complexType>
    <x:element name="ListOrdersResponse"><x:complexType><x:sequence>
      <x:element name="orders"><x:complexType><x:sequence>
        <x:element name="order" type="s:Order" minOccurs="0" maxOccurs="unbounded"/>
      </x:sequence></x:complexType></x:element>
      <x:element name="count" type="x:int"/>
    </x:sequence></x:complexType></x:element>
  </x:schema></types>
  <message name="In"><part name="parameters" element="s:ListOrders"/></message>
  <message name="Out"><part name="parameters" element="s:ListOrdersResponse"/></message>
  <portType name="ShopPort"><operation name="ListOrders">
    <input message="s:In"/><output message="s:Out"/></operation></portType>
  <binding name="ShopBinding" type="s:ShopPort">
    <soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="ListOrders"><soap:operation soapAction="urn:shop#ListOrders"/>
      <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
  </binding>
  <service name="Shop"><port name="ShopPort" binding="s:ShopBinding">
    <soap:address location="ADDRESS"/></port></service>
</definitions>"""

HELD = [
    (1, "19.90", "2026-01-01T00:00:00Z", "a"),
    (9007199254740993, "0.10", "2026-01-02T00:00:00Z", None),
    (3, "5", "2026-01-03T00:00:00Z", "c"),
]


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def envelope(body: str, status: int = 200) -> Response:
    text = f'<e:Envelope xmlns:e="{ENVELOPE}"><e:Body>{body}</e:Body></e:Envelope>'
    return Response(text, status=status, content_type="text/xml; charset=utf-8")


def fault(code: str, text: str, status: int = 500) -> Response:
    return envelope(
        f"<e:Fault><faultcode>{code}</faultcode><faultstring>{text}</faultstring></e:Fault>", status
    )


def asked(request: Request, name: str) -> str | None:
    found = etree.fromstring(request.data).find(f".//{{{NAMESPACE}}}{name}")
    return None if found is None else str(found.text)


def orders(request: Request) -> Response:
    since = asked(request, "since") or ""
    found = [row for row in HELD if row[2] >= since]
    items = "".join(
        f"<order><id>{key}</id><total>{total}</total><at>{at}</at>"
        + (f"<note>{note}</note></order>" if note else "</order>")
        for key, total, at, note in found
    )
    return envelope(
        f'<ListOrdersResponse xmlns="{NAMESPACE}"><orders>{items}</orders><count>{len(found)}</count>'
        "</ListOrdersResponse>"
    )


def serve(
    api: Api, answer: Callable[[Request], Response], address: str | None = None, wsdl: str = WSDL
) -> None:
    text = wsdl.replace("ADDRESS", address or api.server.url_for("/soap"))
    api.serve("/shop.wsdl", lambda _: Response(text, content_type="text/xml"))
    api.serve("/soap", answer)


def connector(api: Api, *, more: dict[str, object] | None = None, **call: object) -> SoapConnector:
    listed = {"operation": "ListOrders", "records": "orders.order", "primary_key": "id", **call}
    given = {"wsdl": api.server.url_for("/shop.wsdl"), "attempts": 2, "longest_wait": 0.01}
    return SoapConnector(
        SoapConnection.model_validate({**given, "resources": {"orders": listed}, **(more or {})})
    )


def test_results_are_rows_with_all_their_digits(api: Api) -> None:
    serve(api, orders)
    found = read(connector(api), ORDERS)
    assert found.column("id").to_pylist() == [row[0] for row in HELD]
    assert [str(total) for total in found.column("total").to_pylist()] == ["19.90", "0.10", "5.00"]
    assert str(found.schema.field("at").type).startswith("timestamp")
    assert found.column("note").to_pylist() == ["a", None, "c"]
    assert connector(api).test().message == "orders answered, with 3 records on its first page"
    assert "describes 1 operations" in connector(api, more={"resources": {}}).test().message


UNFIT = {
    "long": "x",
    "decimal": "abc",
    "double": "INF",
    "boolean": "yes",
    "dateTime": "soon",
    "date": "2026-13-01",
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_value_that_does_not_fit_its_type_is_an_error(api: Api, kind: str) -> None:
    """zeep would take it for a missing one, or for another."""
    wsdl = WSDL.replace('name="total" type="x:decimal"', f'name="total" type="x:{kind}"')
    serve(api, lambda _: one_order(UNFIT[kind]), wsdl=wsdl)
    with pytest.raises(SourceError, match="'total'") as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "soap_value"


FITTING = {
    "long": "-9223372036854775808", "decimal": "0.12345678901234567890", "boolean": "1",
    "dateTime": "2026-01-01T00:00:00.123456789Z", "double": "0.1", "integer": "99999999999999999999999",
}  # fmt: skip


@pytest.mark.parametrize("kind", FITTING)
def test_a_value_keeps_all_its_digits(api: Api, kind: str) -> None:
    wsdl = WSDL.replace('name="total" type="x:decimal"', f'name="total" type="x:{kind}"')
    serve(api, lambda _: one_order(FITTING[kind]), wsdl=wsdl)
    (found,) = values.to_text(read(connector(api), ORDERS).column("total").combine_chunks()).to_pylist()
    assert found == {"boolean": "true"}.get(kind, FITTING[kind])


def one_order(total: str) -> Response:
    return envelope(
        f'<ListOrdersResponse xmlns="{NAMESPACE}"><orders><order><id>1</id><total>{total}</total>'
        "<at>2026-01-01T00:00:00Z</at></order></orders><count>1</count></ListOrdersResponse>"
    )


def test_only_what_is_new_is_asked_for(api: Api, tmp_path: Path) -> None:
    serve(api, orders)
    made = {"incremental": {"argument": "since"}, "arguments": {"shop": 7}}
    stream = Stream("orders", table="orders", cursor="at", primary_key=("id",))
    sync(connector(api, **made), tmp_path, stream)
    assert sync(connector(api, **made), tmp_path, stream).rows_read == 1
    sent = [(asked(request, "since"), asked(request, "shop")) for request in api.asked if request.data]
    assert sent == [(None, "7"), ("2026-01-03T00:00:00Z", "7")]
    assert rows(tmp_path, "SELECT count(*), max(id) FROM api.orders") == [(3, 9007199254740993)]


def has_token(request: Request) -> bool:
    user = etree.fromstring(request.data).find(f".//{{{WSSE}}}UsernameToken")
    if user is None or user.findtext(f"{{{WSSE}}}Username") != "etl":
        return False
    password = user.find(f"{{{WSSE}}}Password")
    assert password is not None
    if not str(password.get("Type")).endswith("#PasswordDigest"):
        return password.text == "s3cret"
    nonce = base64.b64decode(user.findtext(f"{{{WSSE}}}Nonce") or "")
    created = user.findtext(f"{{{WSU}}}Created") or ""
    digest = hashlib.sha1(nonce + created.encode() + b"s3cret").digest()
    return password.text == base64.b64encode(digest).decode()


def has_basic(request: Request) -> bool:
    return request.headers.get("Authorization") == "Basic " + base64.b64encode(b"etl:s3cret").decode()


LOGINS: dict[str, tuple[dict[str, object], Callable[[Request], bool]]] = {
    "basic": ({"auth": {"type": "basic", "username": "etl", "password": "s3cret"}}, has_basic),
    "token": ({"security": {"username": "etl", "password": "s3cret"}}, has_token),
    "digest": ({"security": {"username": "etl", "password": "s3cret", "digest": True}}, has_token),
}


@pytest.mark.parametrize("how", LOGINS)
def test_logins_and_their_faults(api: Api, how: str) -> None:
    login, good = LOGINS[how]
    refused = fault("w:FailedAuthentication", "No user etl with the password 's3cret'")
    serve(api, lambda request: orders(request) if good(request) else refused)
    assert read(connector(api, more=login), ORDERS).num_rows == 3
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    shown = f"{caught.value.message} {caught.value.hint}"
    assert (caught.value.code, caught.value.retryable) == ("soap_fault", False)
    assert "FailedAuthentication" in shown
    assert "s3cret" not in shown


def test_a_message_that_is_sent_again_has_a_nonce_of_its_own(api: Api) -> None:
    """A server that keeps nonces takes a message for a replay that has one for the second time."""
    seen: list[str | None] = []

    def answer(request: Request) -> Response:
        if not request.data:
            return orders(request)
        assert has_token(request)
        seen.append(etree.fromstring(request.data).findtext(f".//{{{WSSE}}}Nonce"))
        if len(seen) == 1:
            return Response(status=503)
        if len(seen) == 2:
            return Response(status=307, headers={"Location": "/soap"})
        return orders(request) if len({*seen}) == len(seen) else fault("w:FailedAuthentication", "A replay")

    serve(api, answer)
    assert read(connector(api, more=LOGINS["digest"][0]), ORDERS).num_rows == 3
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("code", "status", "tries"), [("e:Server", 500, 2), ("e:Client", 500, 1), ("e:Client", 200, 1)]
)
def test_faults_load_nothing(api: Api, tmp_path: Path, code: str, status: int, tries: int) -> None:
    serve(api, orders)
    stream = Stream("orders", table="orders", disposition=Disposition.REPLACE)
    sync(connector(api), tmp_path, stream)
    api.server.clear()
    api.asked.clear()
    serve(api, lambda _: fault(code, "The date 2026-01-01 is wrong", status))
    with pytest.raises(SourceError, match=r"The date \.\.\. is wrong") as caught:
        sync(connector(api), tmp_path, stream)
    assert caught.value.code == "soap_fault"
    assert sum(request.path == "/soap" for request in api.asked) == tries
    assert rows(tmp_path, "SELECT count(*) FROM api.orders") == [(3,)]


@pytest.mark.parametrize("how", LOGINS)
def test_a_login_is_for_the_services_own_origin(api: Api, how: str) -> None:
    with HTTPServer() as other:
        elsewhere = Api(other)
        elsewhere.serve("/soap", orders)
        serve(api, orders, elsewhere.server.url_for("/soap"))
        with pytest.raises(ConfigError) as caught:
            read(connector(api, more=LOGINS[how][0]), ORDERS)
        assert caught.value.code == "soap_endpoint"
        serve_redirect = Response(status=307, headers={"Location": elsewhere.server.url_for("/soap")})
        api.server.clear()
        serve(api, lambda _: serve_redirect)
        with pytest.raises(SourceError) as refused:
            read(connector(api, more=LOGINS[how][0]), ORDERS)
        assert refused.value.code == "refused_redirect"
        assert elsewhere.asked == []
        named = {"endpoint": elsewhere.server.url_for("/soap"), **LOGINS[how][0]}
        api.asked.clear()
        assert read(connector(api, more=named), ORDERS).num_rows == 3
        assert all(LOGINS[how][1](request) for request in elsewhere.asked)
        assert not any("Authorization" in request.headers for request in api.asked)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"operation": "ListOrder"}, "unknown_operation"),
        ({"arguments": {"from": 1}}, "soap_arguments"),
        ({"more": {"wsdl": "http://127.0.0.1:9/x?wsdl"}}, "unreachable"),
        ({"more": {"service": "Shops"}}, "wsdl"),
    ],
)
def test_what_is_wrong_is_said(api: Api, given: dict[str, object], code: str) -> None:
    serve(api, orders)
    with pytest.raises(AtlasError) as caught:
        read(connector(api, **given), ORDERS)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.hint


def test_a_wsdl_that_is_none_and_one_that_leads_to_a_file(api: Api) -> None:
    imported = WSDL.replace(
        '<message name="In">', '<import namespace="urn:y" location="file:///etc/passwd"/><message name="In">'
    )
    for text, code in (("<html><p>no", "wsdl"), ("<html/>", "wsdl"), (imported, "refused_redirect")):
        api.server.clear()
        api.serve("/shop.wsdl", lambda _, text=text: Response(text))
        with pytest.raises(SourceError) as caught:
            read(connector(api), ORDERS)
        assert caught.value.code == code


def test_a_missing_extra_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['zeep'] = None\n"
        "from atlas_etl.connectors import registry\n"
        "try:\n    registry.load('soap')\nexcept Exception as failure:\n    print(failure.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'pip install "atlas-etl[soap]"'


@pytest.mark.parametrize(
    "answer",
    [
        envelope(""),
        Response(f'<e:Envelope xmlns:e="{ENVELOPE}"/>', content_type="text/xml"),
        Response("", content_type="text/xml"),
        Response("", status=202),
    ],
    ids=["empty", "no body", "nothing", "accepted"],
)
def test_an_answer_without_a_result_is_an_error_and_not_an_empty_list(api: Api, answer: Response) -> None:
    serve(api, lambda _: answer)
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "soap_answer"


def in_parts(body: bytes, attachment: str) -> Response:
    """As services with attachments answer: https://www.w3.org/TR/xop10/#identifying_xop_documents"""
    head = 'Content-Type: application/xop+xml; charset=UTF-8; type="text/xml"\r\nContent-ID: <root>'
    more = f"Content-Type: application/octet-stream\r\nContent-ID: <{attachment}>"
    text = f"--B\r\n{head}\r\n\r\n{body.decode()}\r\n--B\r\n{more}\r\n\r\nDATA\r\n--B--\r\n"
    kind = 'multipart/related; boundary="B"; type="application/xop+xml"; start="<root>"'
    return Response(text, content_type=kind)


def test_an_answer_in_parts_is_read_with_what_it_includes(api: Api) -> None:
    def included(request: Request) -> bytes:
        include = '<i:Include xmlns:i="http://www.w3.org/2004/08/xop/include" href="cid:note"/>'
        return orders(request).data.replace(b"<note>a</note>", f"<note>{include}</note>".encode())

    serve(api, lambda request: in_parts(orders(request).data, "logo"))
    assert read(connector(api), ORDERS).num_rows == len(HELD)
    api.server.clear()
    serve(api, lambda request: in_parts(included(request), "note"))
    notes = read(connector(api), ORDERS)["note"].to_pylist()
    assert base64.b64decode(notes[0]) == b"DATA"
    api.server.clear()
    serve(api, lambda request: in_parts(included(request), "other"))
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "soap_answer"


def test_a_fault_in_another_encoding_is_read(api: Api) -> None:
    def answer(_: Request) -> Response:
        content = fault("e:Client", "no such shop").data.decode().encode("utf-16")
        return Response(content, status=500, content_type="text/xml; charset=utf-16")

    serve(api, answer)
    with pytest.raises(SourceError, match="no such shop") as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "soap_fault"


ORDER = "<order><id>1</id><total>1</total><at>2026-01-01T00:00:00Z</at><note>n</note></order>"


def answered(items: str) -> Response:
    return envelope(
        f'<ListOrdersResponse xmlns="{NAMESPACE}" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">'
        f"<orders>{items}</orders><count>1</count></ListOrdersResponse>"
    )


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (ORDER.replace("<id>1", "<id>1<?x y?>2"), "soap_value"),
        (ORDER.replace(">n<", ">a<b>c</b>d<"), "soap_value"),
        (ORDER.replace("<id>1", "<id>1_000"), "soap_value"),
        (ORDER.replace("<total>1", "<total>NaN"), "soap_value"),
        ('<order href="#elsewhere"/>', "soap_value"),
        ('<order i:nil="true"/>', "not_objects"),
        (ORDER.replace("<id>1</id>", "").replace("<note>", "<id>1</id><note>"), "soap_answer"),
        (ORDER.replace("<total>", '<total currency="EUR">'), "soap_value"),
        (ORDER.replace("<total>", "lost<total>"), "soap_value"),
        (ORDER.replace("<total>", '<total href="#elsewhere">'), "soap_value"),
        ("lost" + ORDER, "soap_value"),
        (ORDER + "</orders><count>1</count></ListOrdersResponse><ListOrdersResponse><orders>", "soap_answer"),
    ],
)  # fmt: skip
def test_what_would_be_cut_or_made_up_is_an_error(api: Api, wrong: str, code: str) -> None:
    serve(api, lambda _: answered(ORDER + wrong))
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == code


@pytest.mark.parametrize("behind", ["</id>", "<order", "</or", "<id>", "</order>"])
def test_an_answer_that_is_cut_off_is_worth_reading_again(api: Api, behind: str) -> None:
    def broken(_: Request) -> Response:
        whole = answered(ORDER).get_data(as_text=True)
        return Response(whole[: whole.index(behind) + len(behind)], content_type="text/xml")

    serve(api, broken)
    with pytest.raises(SourceError, match="it was cut off") as caught:
        read(connector(api), ORDERS)
    assert (caught.value.code, caught.value.retryable) == ("soap_answer", True)


def test_attributes_that_the_wsdl_does_not_have_are_read(api: Api) -> None:
    more = ORDER.replace("<order>", '<order status="open" y:more="&lt;" xmlns:y="urn:y" i:type="Order">')
    serve(api, lambda _: answered(more + ORDER))
    found = read(connector(api), ORDERS).select(["@status", "@more"]).to_pylist()
    assert found == [{"@status": "open", "@more": "<"}, {"@status": None, "@more": None}]


def test_a_list_of_plain_values_has_a_row_for_each(api: Api) -> None:
    wsdl = WSDL.replace('name="order" type="s:Order"', 'name="string" nillable="true" type="x:string"')
    items = '<string>EUR</string><string i:nil="true"/><string>USD</string>'
    serve(api, lambda _: answered(items), wsdl=wsdl)
    found = read(
        connector(api, records="orders.string", value_column="currency", primary_key="currency"), ORDERS
    )
    assert found.to_pylist() == [{"currency": "EUR"}, {"currency": None}, {"currency": "USD"}]


def test_a_value_may_be_as_large_as_an_answer(api: Api) -> None:
    """A file in base64, say: libxml2 stops at 10 MB by itself."""
    large = "eHl6" * 3_000_000
    serve(api, lambda _: answered(ORDER.replace(">n<", f">{large}<")))
    assert read(connector(api), ORDERS).column("note").to_pylist() == [large]
    api.server.clear()
    serve(api, lambda _: answered("<order>" * 100_000 + "</order>" * 100_000))
    with pytest.raises(SourceError) as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "soap_answer"


def test_a_date_keeps_its_zone(api: Api) -> None:
    wsdl = WSDL.replace('name="note" type="x:string"', 'name="note" type="x:date"')
    items = "".join(ORDER.replace(">n<", f">{text}<") for text in ("2024-01-01+02:00", "2024-01-01"))
    serve(api, lambda _: answered(items), wsdl=wsdl)
    assert read(connector(api), ORDERS).column("note").to_pylist() == ["2024-01-01+02:00", "2024-01-01"]


def test_records_that_are_nil_are_left_out_where_that_is_asked_for(api: Api) -> None:
    serve(api, lambda _: answered('<order i:nil="true"/>' + ORDER))
    assert read(connector(api, records="orders.order[*]"), ORDERS).num_rows == 1


@pytest.mark.parametrize(
    ("kind", "text"), [("gYear", "2026"), ("gMonthDay", "--01-02"), ("duration", "P1M"), ("duration", "PT2H")]
)
def test_what_is_no_value_of_json_is_as_it_was_written(api: Api, kind: str, text: str) -> None:
    wsdl = WSDL.replace('name="note" type="x:string"', f'name="note" type="x:{kind}"')
    serve(api, lambda _: answered(ORDER.replace(">n<", f">{text}<")), wsdl=wsdl)
    assert read(connector(api, types={"note": "text"}), ORDERS).column("note").to_pylist() == [text]


def test_a_type_that_is_missing_is_no_matter_of_ports(api: Api) -> None:
    serve(api, orders, wsdl=WSDL.replace('type="s:Order"', 'type="s:Nothing"'))
    with pytest.raises(SourceError, match="cannot be read") as caught:
        read(connector(api), ORDERS)
    assert caught.value.code == "wsdl"


def test_a_password_that_no_message_holds_is_a_wrong_definition(api: Api) -> None:
    security = {"username": "u", "password": "\x01secret"}
    with pytest.raises(ValueError, match="digest") as caught:
        connector(api, more={"security": security})
    assert "secret" not in str(caught.value)
    connector(api, more={"security": {**security, "digest": True}})
