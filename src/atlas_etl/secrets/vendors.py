"""What references to vendors' stores have in common: how they are written, and how refusals are told."""

from __future__ import annotations

import json

from atlas_etl.errors import ConfigError

SECONDS = 30
MOST_ATTEMPTS = 3


def parts_of(written: str, kind: str, example: str) -> tuple[str, str]:
    """The place and the field of `PLACE#FIELD`, the field empty where none is named. Raises ConfigError."""
    place, _, field = written.partition("#")
    if not place or (not field and written.endswith("#")):
        raise not_written_so(kind, example)
    return place, field


def not_written_so(kind: str, example: str) -> ConfigError:
    return ConfigError(
        f"a `{kind}` reference is not written so",
        hint=f"${{{kind}:{example}}}",
        code="reference_syntax",
    )


def member(text: str, field: str, place: str) -> str:
    """A member of a secret that is a JSON object; all of the secret where no field is named."""
    if not field:
        return text
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError(f"the secret {place!r} is no JSON object with fields", code="missing_secret")
    return value_of(document, field, place)


def value_of(document: dict[str, object], field: str, place: str) -> str:
    """A field's text or number. Raises ConfigError (`missing_secret`)."""
    value = document.get(field)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ConfigError(f"the secret {place!r} has no text in a field {field!r}", code="missing_secret")
    return str(value)


def missing(kind: str, place: str, hint: str) -> ConfigError:
    return ConfigError(f"{kind} has no secret {place!r}", hint=hint, code="missing_secret")


def refused(kind: str, place: str, hint: str) -> ConfigError:
    return ConfigError(f"{kind} does not let us read the secret {place!r}", hint=hint, code="secret_refused")


def failed(kind: str, why: str, hint: str) -> ConfigError:
    """`why` is a name of an error and never its words, which may quote what was sent."""
    return ConfigError(f"{kind} cannot be asked for a secret: {why}", hint=hint, code="secret_unreachable")
