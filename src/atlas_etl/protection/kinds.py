# ruff: noqa: E501 (a kind is a line)
"""Kinds of personal data: what columns of them are called, and what their values look like.

Names are matched word by word (`customer_email`, `customerEmail`). Contents are judged by libraries that know
the formats and checksums: `phonenumbers` (Google's libphonenumber) and `python-stdnum`, whose modules name the
authority of each number. Each kind says how many random texts of its shape pass its check, so that a column
of order numbers, a tenth of which have a right check digit, is not taken for one of identity numbers.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
from collections.abc import Callable

from msgspec import Struct

from atlas_etl.model import Protection, Rule

Check = Callable[[str], bool]

LAST_FOUR = Rule(Protection.MASK, keep_last=4)
HASH, MASK, DROP, TOKENIZE = (
    Rule(how) for how in (Protection.HASH, Protection.MASK, Protection.DROP, Protection.TOKENIZE)
)


class Kind(Struct, frozen=True):
    """One kind of personal data, and the rule that is proposed for it."""

    name: str
    rule: Rule
    names: str = ""  # a regular expression of whole words of a column's name, between which stands a blank
    shape: str = ""  # a regular expression of a whole value; empty: values tell nothing
    check: Check | None = None  # what a value of the shape passes
    chance: float = 0.0  # how many random values of the shape pass
    certainty: float = 1.0  # the confidence where every value passes


def _number(module: str) -> Check:
    """The check of a module of python-stdnum, imported when it is first needed."""

    def check(text: str) -> bool:
        try:
            return bool(importlib.import_module(f"stdnum.{module}").is_valid(text))
        except (KeyError, ValueError, IndexError):  # of texts that its tables have only a part of
            return False

    return check


def _is_phone(text: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, None))
    except phonenumbers.NumberParseException:
        return False


def _is_card(text: str) -> bool:
    """ISO/IEC 7812-1: a check digit by Luhn, and the first digits of the large networks."""
    digits = re.sub(r"[ -]", "", text)
    return bool(_CARD.match(digits)) and _number("luhn")(digits)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_CARD = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6(?:011|4[4-9]|5)|35|3[0689]|62")


def _id(  # noqa: PLR0917 (a line of a table)
    country: str, module: str, names: str, shape: str, chance: float, certainty: float = 0.95
) -> Kind:
    return Kind(f"national_id:{country}", HASH, names, shape, _number(module), chance, certainty)


KINDS = (
    Kind(
        "email",
        HASH,
        r"e ?mails?|mail ?address|courriel|correo",
        r"[^@\s,;<>\"]{1,64}@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}",
    ),
    Kind(
        "phone",
        LAST_FOUR,
        r"(?:tele)?phones?|phone ?(?:number|no)|mobiles?|tel|fax|telefon|handy|cell|msisdn",
        r"\+[\d ()./-]{7,20}",
        _is_phone,
        0.2,
        0.97,
    ),
    Kind("iban", TOKENIZE, r"iban", r"[A-Z]{2}\d{2}[ A-Z0-9]{11,40}", _number("iban"), 0.01),
    Kind(
        "card",
        LAST_FOUR,
        r"(?:credit|debit|bank|payment) ?cards?(?: ?(?:number|no|num))?|card ?(?:number|no|num)|cc ?num(?:ber)?",
        r"\d(?:[ -]?\d){12,18}",
        _is_card,
        0.06,
        0.97,
    ),
    Kind("ip_address", HASH, r"ip|ip ?addr(?:ess)?|remote ?addr", r"[0-9A-Fa-f:.]{3,45}", _is_address, 0.05),
    # Numbers that states give to people.
    _id("AU", "au.tfn", r"tfn", r"\d{3} ?\d{3} ?\d{3}", 0.1, 0.85),
    _id("BE", "be.nn", r"rijksregister(?:nummer)?|niss|insz", r"\d{2}[. ]?\d{2}[. ]?\d{2}[- ]?\d{3}[. ]?\d{2}", 0.02),
    _id("BG", "bg.egn", r"egn", r"\d{10}", 0.05, 0.9),
    _id("BR", "br.cpf", r"cpf", r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", 0.02),
    _id("CA", "ca.sin", r"sin|social insurance(?: number)?", r"\d{3}[- ]?\d{3}[- ]?\d{3}", 0.1, 0.85),
    _id("CH", "ch.ssn", r"ahv|avs|ahv ?(?:nr|nummer)", r"756\.?\d{4}\.?\d{4}\.?\d{2}", 0.1),
    _id("CL", "cl.rut", r"rut", r"\d{1,2}\.?\d{3}\.?\d{3}-[\dkK]", 0.1),
    _id("CN", "cn.ric", r"resident id(?:entity)?", r"\d{17}[\dXx]", 0.05),
    _id("CZ", "cz.rc", r"rodne cislo|rc", r"\d{6}/\d{3,4}", 0.1),
    _id("DE", "de.idnr", r"steuer ?id(?:nr|entifikationsnummer)?|idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", 0.1, 0.9),
    _id("DK", "dk.cpr", r"cpr", r"\d{6}-\d{4}", 0.4, 0.8),
    _id("EE", "ee.ik", r"isikukood", r"\d{11}", 0.1, 0.9),
    _id("ES", "es.dni", r"dni", r"\d{8}-?[A-Za-z]", 0.06),
    _id("ES", "es.nie", r"nie", r"[XYZxyz]-?\d{7}-?[A-Za-z]", 0.06),
    _id("FI", "fi.hetu", r"hetu|henkilotunnus", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", 0.05),
    _id("FR", "fr.nir", r"nir|numero (?:de )?secu(?:rite sociale)?", r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}", 0.03),
    _id("GB", "gb.nhs", r"nhs(?: ?(?:number|no))?", r"\d{3}[- ]?\d{3}[- ]?\d{4}", 0.1, 0.85),
    _id("HR", "hr.oib", r"oib", r"\d{11}", 0.11, 0.85),
    _id("IN", "in_.aadhaar", r"aadhaa?r(?: ?(?:number|no))?", r"\d{4}[- ]?\d{4}[- ]?\d{4}", 0.1, 0.85),
    _id("IN", "in_.pan", r"pan", r"[A-Z]{5}\d{4}[A-Z]", 0.4, 0.9),
    _id("IT", "it.codicefiscale", r"codice fiscale|cf", r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]", 0.05),
    _id("KR", "kr.rrn", r"rrn", r"\d{6}-?\d{7}", 0.1, 0.9),
    _id("MX", "mx.curp", r"curp", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", 0.1),
    _id("NL", "nl.bsn", r"bsn|burgerservicenummer|sofi(?:nummer)?", r"\d{9}", 0.1, 0.85),
    _id("NO", "no.fodselsnummer", r"fodselsnummer|fnr", r"\d{6} ?\d{5}", 0.02),
    _id("PL", "pl.pesel", r"pesel", r"\d{11}", 0.06, 0.9),
    _id("RO", "ro.cnp", r"cnp", r"\d{13}", 0.06),
    _id("SE", "se.personnummer", r"personnummer|pnr", r"(?:\d{2})?\d{6}[-+]\d{4}", 0.06),
    _id("TR", "tr.tckimlik", r"tckn|tc kimlik(?: no)?", r"\d{11}", 0.02),
    # Without a check digit: the form with its hyphens is what tells it.
    _id("US", "us.ssn", r"ssn|social security(?: (?:number|no))?", r"\d{3}-\d{2}-\d{4}", 0.0, 0.85),
    _id("US", "us.itin", r"itin", r"9\d{2}-\d{2}-\d{4}", 0.0, 0.85),
    _id("ZA", "za.idnr", r"sa id(?: ?(?:number|no))?", r"\d{13}", 0.06, 0.9),
    # Kinds that only their names tell.
    Kind("national_id", HASH, r"national id(?:entity)?(?: ?(?:number|no))?|tax id|passport(?: ?(?:number|no))?|personal ?ausweis"),
    Kind("name", MASK, r"(?:first|last|middle|full|given|family|maiden|sur|customer|contact|person|employee|patient|holder) ?names?|(?<![a-z0-9] )names?|vorname|nachname|nom|prenom|apellidos?"),
    Kind("address", MASK, r"address(?: ?line)?(?: ?\d)?|street(?: ?(?:name|address))?|strasse|adresse|direccion|(?:zip|post(?:al)?) ?code|plz"),
    Kind("birth_date", DROP, r"birth ?(?:date|day)|date of birth|dob|geburts(?:datum|tag)|born(?: on)?"),
    Kind("location", DROP, r"lat(?:itude)?|lng|lon(?:gitude)?|gps|geo ?(?:point|location)"),
    Kind("credential", DROP, r"pass ?word(?: ?hash)?|passwd|secret|api ?key|access ?token|auth ?token|pin ?code"),
)  # fmt: skip
