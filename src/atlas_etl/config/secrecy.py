"""Which settings are secrets, by their names or their types, and how they look when they are shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import get_args

from pydantic import BaseModel, SecretBytes, SecretStr

from atlas_etl.config.annotations import model_in, types_in
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.references import ReferenceContext, holds_reference, is_reference, referred
from atlas_etl.redactor import MASK

_PLAIN_KINDS = frozenset({"env", "file"})  # of references: the others stand for secrets alone
_SECRETS = {SecretStr, SecretBytes}

_SECRET = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|authorization|cookie|signature|bearer|dsn"
    r"|(?:^|_)(?:api|app|access|account|auth|encryption|license|master|private|sas|shared|signing|ssh)_?key"
    r"|(?:^|_)key$|(?:^|_)pass$|(?:^|_)pat$"
)
_NOT_SECRET = re.compile(
    r"(?:primary|partition|public|foreign|cursor|next|data|sort)_key$"
    r"|_(?:url|uri|file|path|name|header|param|parameter|field|type|id|endpoint|style|format|encoding|prefix)$"
)
_USER_PART = re.compile(r"(?<=://)((?:\$\{[^}\s]{0,200}\}|[^/@\s:])*+):(\S*)@")
_LONE_USER = re.compile(r"(?i)(?<![a-z])(https?://)[^/@\s:$]+:?@")  # of an API mostly a token
_PLACELESS = re.compile(r"([^/@\s:]+):([^@\s/]+)@([\w.\[\]:-]+(?:/\S*)?)")
_PARAMETER = re.compile(r"(^|[?&;\s])([\w.-]+)=([^&;\s#]+)")
_WRITTEN_OUT = re.compile(  # PASSWORD = 'x', "password": "x", IDENTIFIED BY 'x'
    r"""(?i)((?:passw(?:or)?d|passphrase|pwd|secret|token|api_?key|identified by)["']?\s{0,4}[=:]?\s{0,4})"""
    r"""("(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.|'')*+')"""
)
_HEADER = re.compile(r"(?i)\b((?:bearer|basic)\s+)([\w.~+/-]{8,}=*)")
_DEFAULT = re.compile(r":-[^}]*\}")


def is_secret_name(name: str) -> bool:
    """Whether a key's name says that its value is a secret (`password`, `apiKey`, `X-Auth-Token`)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").replace(".", "_").lower()
    return _SECRET.search(words) is not None and _NOT_SECRET.search(words) is None


def secret_fields(model: type[BaseModel]) -> Iterator[KeyPath]:
    """The keys of a model whose type is a secret, with those of the models inside it."""
    for name, info in model.model_fields.items():
        key = info.alias or name
        if types_in(info.annotation) & _SECRETS or _has_secret_values(info.annotation):
            yield (key,)
        inner = model_in(info.annotation)
        if inner is not None and inner is not model:
            yield from ((key, *rest) for rest in secret_fields(inner))


def _has_secret_values(annotation: object) -> bool:
    return any(types_in(inner) & _SECRETS for inner in get_args(annotation))


def is_secret_key(path: KeyPath, declared: Collection[KeyPath] = ()) -> bool:
    """Whether a key, or a mapping that it is in, is a secret by name or by declaration."""
    return any(isinstance(part, str) and is_secret_name(part) for part in path) or any(
        path[: len(secret)] == secret for secret in declared
    )


def ends_in_secret(path: KeyPath) -> bool:
    """Whether the last key's name says that what it holds is a secret, whatever it looks like."""
    return isinstance(path[-1], str) and is_secret_name(path[-1])


def masked(value: object, path: KeyPath, declared: Collection[KeyPath] = ()) -> object:
    """The value as it may be shown: secrets as MASK, references to secrets as they are written."""
    if isinstance(value, Mapping | list | tuple) and path and ends_in_secret(path):
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(item, (*path, str(key)), declared) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, (*path, index), declared) for index, item in enumerate(value)]
    if isinstance(value, SecretStr | SecretBytes):
        return MASK
    if value is None or isinstance(value, bool):
        return value
    if is_secret_key(path, declared):
        return _DEFAULT.sub(f":-{MASK}}}", value) if isinstance(value, str) and is_reference(value) else MASK
    return without_credentials(value) if isinstance(value, str) else value


def without_credentials(text: str) -> str:
    """A text without the passwords in its URLs, parameters, statements, documents and headers.

    Nothing is left of a private key, which stands where its file should be named.
    """
    if "PRIVATE KEY-----" in text:
        return MASK
    text = _LONE_USER.sub(rf"\1{MASK}@", text)
    text = _USER_PART.sub(_masked_password, text)
    if found := _PLACELESS.fullmatch(text):
        text = text if is_reference(found[2]) else f"{found[1]}:{MASK}@{found[3]}"
    text = _HEADER.sub(rf"\1{MASK}", text)
    text = _WRITTEN_OUT.sub(lambda found: f"{found[1]}{found[2][0]}{MASK}{found[2][0]}", text)
    return _PARAMETER.sub(
        lambda found: f"{found[1]}{found[2]}={MASK}" if is_secret_name(found[2]) else found[0], text
    )


def _masked_password(found: re.Match[str]) -> str:
    return found[0] if is_reference(found[2]) and ":-" not in found[2] else f"{found[1]}:{MASK}@"


def literal_secrets(values: Mapping[str, object]) -> list[KeyPath]:
    """The keys whose secrets are written out in these values, rather than referred to."""
    return [
        path
        for path, value in _scalars(values, ())
        if isinstance(value, str | int | float)
        and not isinstance(value, bool)
        and not (isinstance(value, str) and (not value or holds_reference(value)))
        and (is_secret_key(path) or (isinstance(value, str) and without_credentials(value) != value))
    ]


def referred_secrets(text: str, context: ReferenceContext) -> Iterator[str]:
    """What references in a text stand for: those kept as secrets, and variables and files with such names.

    Raises ConfigError.
    """
    for kind, place, value in referred(text, context):
        if kind not in _PLAIN_KINDS or is_secret_name(place.partition(":-")[0]):
            yield value


def written_secrets(values: object, below: KeyPath = (), declared: Collection[KeyPath] = ()) -> Iterator[str]:
    """The secrets that stand in these values as they are, also as passwords of URLs."""
    for path, value in _scalars(values, below):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            continue
        text = str(value)
        if is_secret_key(path, declared):
            yield from () if holds_reference(text) else (text,)
        yield from (found[2] for found in _USER_PART.finditer(text) if not holds_reference(found[2]))


def _scalars(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _scalars(item, (*path, index))
    else:
        yield path, value
