"""Which columns are found to hold personal data, and which are not."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from atlas_etl.protection.detection import Finding, found_in, proposal, words_of
from atlas_etl.protection.presidio import presidio_finder
from atlas_etl.protection.texts import found_by_format, found_in_texts


def found(name: str, cells: list[object]) -> tuple[str, tuple[str, ...]] | None:
    finding = found_in(name, pa.array(cells))
    return (finding.kind.name, finding.by) if finding else None


BOTH, NAME, CONTENT = ("name", "content"), ("name",), ("content",)


@pytest.mark.parametrize(
    ("name", "cells", "kind", "by"),
    [
        ("contact", ["ada@example.com", "grace.hopper@navy.mil"], "email", CONTENT),
        ("customerEMail", ["ada@example.com", None, "x@y.org"], "email", BOTH),
        ("x", ["+49 30 901820", "+1 212-555-0175", "+442083661177"], "phone", CONTENT),
        ("phone_number", ["030 123456", "0151 2345678"], "phone", NAME),
        ("x", ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"], "iban", CONTENT),
        ("card_no", ["4111 1111 1111 1111", "378282246310005", "5500005555555559"], "card", BOTH),
        ("x", [4111111111111111, 5500005555555559, 6011000990139424], "card", CONTENT),
        ("x", ["10.0.0.1", "2001:db8::1"], "ip_address", CONTENT),
        # Examples of python-stdnum, each the authority's own where it publishes one.
        ("x", ["111222333", "941331490", "123456782"], "national_id:NL", CONTENT),
        ("x", ["295109912611193"], "national_id:FR", CONTENT),
        ("x", ["36574261809"], "national_id:DE", CONTENT),
        ("x", ["390.533.447-05", "231.002.999-00"], "national_id:BR", CONTENT),
        ("x", ["54362315-K", "54362315K", "12345678Z"], "national_id:ES", CONTENT),
        ("x", ["RCCMNL83S18D969H"], "national_id:IT", CONTENT),
        ("x", ["131052-308T"], "national_id:FI", CONTENT),
        ("x", ["880320-0016", "640823-3234"], "national_id:SE", CONTENT),
        ("ssn", ["536-90-4399"], "national_id:US", BOTH),
        ("ssn", ["536904399", "219099999"], "national_id:US", NAME),
        ("first_name", ["Ada"], "name", NAME),
        ("dateOfBirth", ["1815-12-10"], "birth_date", NAME),
        ("billing_address_line1", ["1 Main St"], "address", NAME),
        ("password", ["x"], "credential", NAME),
    ],
)
def test_what_is_found(name: str, cells: list[object], kind: str, by: tuple[str, ...]) -> None:
    assert found(name, cells) == (kind, by)


def digits(size: int) -> list[object]:
    rng = random.Random(size)
    return [str(rng.randrange(10 ** (size - 1), 10**size)) for _ in range(500)]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        *((f"random_{size}", digits(size)) for size in range(8, 20)),
        ("customer_id", list(range(100_000_000, 100_003_000))),
        ("epoch", list(range(1_700_000_000_000, 1_700_000_900_000, 997))),
        ("email_sent", [True, False]),
        ("emails_opened", [1, 2, 3]),
        ("hotel", ["Ritz"]),
        ("table_name", ["people"]),
        ("amount", [1.5, 2.25]),
        ("id", ["550e8400-e29b-41d4-a716-446655440000"]),
        ("empty", [None, None]),
        ("version", ["1.2.3", "2.0"]),
    ],
)
def test_what_is_no_personal_data(name: str, cells: list[object]) -> None:
    assert found(name, cells) is None


def test_few_values_make_less_sure_than_many() -> None:
    one = found_in("x", pa.array(["a@b.org"]))
    many = found_in("x", pa.array([f"a{n}@b.org" for n in range(50)]))
    half = found_in("x", pa.array([f"a{n}@b.org" if n % 2 else f"{n}" for n in range(50)]))
    assert one is not None
    assert many is not None
    assert half is not None
    assert one.confidence == 0.5
    assert many.confidence == 0.98
    assert 0.4 < half.confidence < 0.6
    assert (half.share, half.checked) == (0.5, 50)


@pytest.mark.parametrize(
    ("name", "words"),
    [("customerEMail", "customer e mail"), ("IPAddress", "ip address"), ("tel-no_2", "tel no 2")],
)
def test_names_in_words(name: str, words: str) -> None:
    assert words_of(name) == words


def test_the_proposal() -> None:
    columns = {"email": ["a@b.org"], "phone": ["1"], "last_name": ["x"], "dob": ["y"], "iban": ["z"]}
    findings = [f for name, cells in columns.items() if (f := found_in(name, pa.array(cells))) is not None]
    assert proposal(findings, key=("last_name",), cursor="dob") == {
        "email": "hash",
        "phone": {"mask": {"keep_last": 4}},
        "last_name": "hash",  # a mask would make keys equal
        "iban": "tokenize",
    }


TEXTS = [
    "Please call back on +1 212 555 0175 before noon",
    "Wrote to ada@example.com about the invoice again",
    "Pays from DE89 3704 0044 0532 0130 00 as always, she says",
    "Nothing of interest was said in this conversation",
]


def texts_of(finding: Finding | None) -> tuple[str, float | None]:
    assert finding is not None
    return finding.kind.name, finding.share


def test_free_texts_by_format() -> None:
    assert texts_of(found_in_texts("note", TEXTS, found_by_format)) == ("text with phone, email, iban", 0.75)
    assert found_in_texts("note", [TEXTS[-1]] * 3, found_by_format) is None
    assert found_in_texts("note", ["short", "values"], found_by_format) is None


def test_free_texts_by_presidio_s_own_engine() -> None:
    """Its recognizers of patterns; names of people need a model of spaCy, which no extra installs."""
    find, note = presidio_finder("en")
    kind, share = texts_of(found_in_texts("note", TEXTS, find))
    assert share == 0.75
    assert {"email_address", "iban_code", "phone_number"} <= set(kind.removeprefix("text with ").split(", "))
    assert note is None or "en_core_web_lg" in note
