"""No form of a secret is left in a text, and honest words stay."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from atlas_etl.errors import ConfigError
from atlas_etl.redactor import MASK, RedactingFormatter, Redactor, learn
from atlas_etl.secret_forms import traces, written_anyhow

SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=12, max_size=30)
SHORT = st.text(st.sampled_from("abAB01_$/+=&ä "), min_size=4, max_size=11).filter(
    lambda s: len(s.strip()) > 3
)
AROUND = st.text(max_size=10)
FORMS: tuple[Callable[[str], str], ...] = (
    str,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps({"message": json.dumps(text)}),
    repr,
    ascii,
    lambda text: repr(text.encode()),
    lambda text: "'" + text.replace("'", "''") + "'",
    quote,
    lambda text: quote(text, safe=""),
    quote_plus,
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(f"etl:{text}".encode()).decode(),
    lambda text: text.encode().hex(),
    lambda text: text.encode().hex().upper(),
    lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),  # as PowerShell and .NET do
    lambda text: base64.b64encode(f"etl:{text}".encode("utf-16-be")).decode(),
)


def redactor(*secrets: str) -> Redactor:
    made = Redactor()
    made.learn(secrets)
    return made


@given(SECRETS, AROUND, AROUND, st.sampled_from(FORMS))
def test_a_long_secret_is_masked_in_whatever_form(
    secret: str, before: str, after: str, form: Callable[[str], str]
) -> None:
    shown = redactor(secret).text(f"{before} {form(secret)} {after}")
    assert secret not in shown
    assert MASK in shown


@given(SHORT, st.sampled_from(FORMS[:10]))
def test_a_short_secret_is_masked_where_it_is_a_word_of_its_own(
    secret: str, form: Callable[[str], str]
) -> None:
    assert MASK in redactor(secret).text(f"password={form(secret.strip())}, host=x")


def test_honest_words_stay() -> None:
    known = redactor("postgres", "abc", "", " ", "hunter2")
    text = "postgresql at abc: no pg_hba.conf entry, hunter25"
    assert known.text(text) == text
    assert known.text('role "postgres" with hunter2.') == f'role "{MASK}" with {MASK}.'
    known.forget()
    assert known.text("hunter2") == "hunter2"


def test_what_came_first_is_forgotten_first() -> None:
    known = redactor(*(f"secret-number-{number}-" for number in range(1001)))
    assert known.text("secret-number-0-") == "secret-number-0-"
    assert known.text("secret-number-1000-") == MASK


def test_a_key_is_masked_line_by_line() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7\n-----END-----"
    assert redactor(pem).text(f"got {pem!r}").count(MASK) == 2


def test_errors_and_logs_are_masked() -> None:
    learn(["hunter2-hunter2"])
    error = ConfigError("it said hunter2-hunter2", hint="not hunter2-hunter2")
    assert (error.message, str(error), error.hint) == (f"it said {MASK}", f"it said {MASK}", f"not {MASK}")
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "got %s", ("hunter2-hunter2",), None)
    assert RedactingFormatter().format(record) == f"got {MASK}"


@pytest.mark.parametrize("secret", ["etl-----BEGIN", "-----BEGIN hush-hush"])
def test_a_secret_that_begins_as_a_key_does_is_masked(secret: str) -> None:
    assert redactor(secret).text(f"it said {secret} to us") == f"it said {MASK} to us"


@pytest.mark.parametrize("text", ["\ud800 hunter2-hunter2", "\0"])
def test_any_text_may_be_shown(text: str) -> None:
    assert "hunter2" not in redactor("hunter2-hunter2").text(text)


_SINGLE_BYTES = st.text(st.characters(codec="cp1252", categories=["L", "N", "P"]), min_size=6, max_size=20)


@pytest.mark.parametrize("charset", ["cp1252", "latin-1", "iso8859-15"])
@given(_SINGLE_BYTES)
def test_a_secret_is_masked_in_each_charset(charset: str, secret: str) -> None:
    raw = b"etl-" + secret.encode(charset, "ignore")
    secret = raw.decode(charset)
    known = redactor(secret)
    unreadable = raw.decode("utf-8", "replace")
    assume(set(unreadable) - set(ascii(unreadable)) <= {"\ufffd"})  # and not other letters
    assert re.search(written_anyhow([secret], MASK), b"\xe4 " + raw + b" \xff")
    for form in (
        raw.hex(),
        quote(raw, safe=""),
        quote(quote(raw)),
        repr(raw),
        base64.b64encode(b"etl:" + raw).decode(),
        unreadable,
        secret.encode("ascii", "replace").decode(),
        secret.encode().decode("latin-1"),
        html_of(secret),
    ):
        assert MASK in known.text(f"it said {form} to us"), form


def html_of(text: str) -> str:
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()


def written_in_part(secret: str, choices: list[int]) -> str:
    """Each character in a way of its own, as a server writes a URL that it has decoded in part."""
    ways = (str, lambda text: quote(text, safe=""), lambda text: json.dumps(text)[1:-1], escape)
    return "".join(ways[choices[at % len(choices)]](character) for at, character in enumerate(secret))


@given(SECRETS, st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 2))
def test_a_secret_that_is_escaped_in_part_is_masked(secret: str, choices: list[int], depth: int) -> None:
    shown = written_in_part(secret, choices)
    for _ in range(depth):
        shown = json.dumps({"said": shown})
    assert secret[:6] not in redactor(secret).text(shown)
    assert MASK in redactor(secret).text(shown)


ESCAPES: dict[str, Callable[[int], str]] = {
    "decimal": "&#{};".format,
    "decimal, twice": "&amp;#{:04};".format,
    "hexadecimal": "&#x{:x};".format,
    "capitals": "&#X{:X};".format,
    "url": "%{:02x}".format,
    "url, twice": "%25{:02X}".format,
    "json": "\\u{:04x}".format,
    "python": "\\x{:02x}".format,
}


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_secret_is_masked_whose_letters_are_escaped(escape: str, every: int) -> None:
    """As a server does to be safe in what it repeats, although nobody has to escape letters."""
    secret = "sk_live_4eC39HqLyjW/arj+tT1!"
    shown = "".join(
        ESCAPES[escape](ord(character)) if at % every == 0 else character
        for at, character in enumerate(secret)
    )
    known = redactor("other-secret", secret)
    assert known.text(f"<b>{shown}</b>: bad &#33; 100%25") == f"<b>{MASK}</b>: bad &#33; 100%25"
    assert known.text(f"key={shown},{shown[3:]}").startswith(f"key={MASK},")


def test_escapes_of_honest_text_stay() -> None:
    text = r"&#115;ome%20text &#8364; &#65 \u0041 %41 C:\x41"
    assert redactor("hunter2-hunter2").text(text) == text


@given(st.lists(SECRETS | SHORT, max_size=3), st.lists(SECRETS | AROUND, max_size=4), st.sampled_from(FORMS))
def test_what_is_looked_for_first_leaves_nothing_out(
    secrets: list[str], words: list[str], form: Callable[[str], str]
) -> None:
    text = " ".join(map(form, [*words, *secrets])).encode("utf-8", "surrogatepass")
    pattern = re.compile(written_anyhow(secrets, MASK)) if secrets else None
    if pattern is not None and pattern.search(text):
        assert any(trace in text for trace in traces(secrets))
