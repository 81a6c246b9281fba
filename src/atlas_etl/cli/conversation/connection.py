"""Where the source is and how to get in: the questions that a protocol's own model asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import Struct
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from atlas_etl.cli.conversation.steps import Conversation, Text, answer, say
from atlas_etl.config.annotations import fields_of, model_at, model_in, types_in
from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.references import is_reference
from atlas_etl.config.scalars import plain_scalar
from atlas_etl.config.secret_names import reference_to, secret_name
from atlas_etl.config.stored_secrets import is_secret_field
from atlas_etl.config.yaml_source import Value

_USUAL = ("host", "port", "database", "username", "password", "path", "database_path")
_TEXTS = {str, SecretStr, Path}


class Known(Struct, frozen=True):
    """What is known of a connection before anything is asked.

    `given` was said by flags or in an earlier round; `project` is what atlas.yaml says for the protocol.
    """

    given: Mapping[str, Value]
    project: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ConnectionQuestions:
    """The questions about one connector's connection; secrets that are typed come into `secrets`."""

    connector: str
    model: type[BaseModel]
    known: Known
    secrets: dict[str, str] = field(repr=False)

    def ask(self, *, again: bool = False) -> Conversation[dict[str, Value]]:
        """The connection's keys, with references in the place of secrets.

        What flags gave is not asked, but `again`, when it may be wrong.
        """
        found = deepcopy(dict(self.known.given))
        for key, info in _asked(self.model):
            if key in found and not again:
                continue
            value = yield from self._value((key,), info)
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
        yield from self._others(found)
        return found

    def _value(self, at: KeyPath, info: FieldInfo) -> Conversation[Value]:
        """One key's value; None where it is to be left out, because its default is meant."""
        before = self.known.given.get(dotted(at))
        preset = self.known.project.get(dotted(at), _default(info))
        required = info.is_required() and preset == ""
        if is_secret_field(self.model, at):
            return (yield from self._secret(at, before, required=required))
        shown = str(preset if before is None else before)
        question = f"{dotted(at)}{_explained(info, required=required, has_default=shown != '')}"
        typed = yield from answer(Text(question, shown, check=_checked(info, required=required)), str)
        if not typed or (before is None and typed == shown):
            return None
        return typed if types_in(info.annotation) & _TEXTS else plain_scalar(typed)

    def _secret(self, at: KeyPath, before: Value, *, required: bool) -> Conversation[Value]:
        note = "unseen; Enter keeps what there is" if before is not None else "unseen; Enter for none"
        needed = required and before is None
        question = f"{dotted(at)} ({'unseen' if needed else note})"
        typed = yield from answer(Text(question, hidden=True, check=_needed if needed else str), str)
        if not typed:
            return before
        if is_reference(typed):
            return typed
        name = secret_name(self.connector, at)
        self.secrets[name] = typed
        return reference_to(name)

    def _others(self, found: dict[str, Value]) -> Conversation[None]:
        """Any further key, by its name; deeper ones with dots."""
        question = "another setting, as KEY=VALUE (? lists them; Enter goes on)"
        while typed := (yield from answer(Text(question, check=_setting(self.model)), str)):
            if typed == "?":
                yield from say(_listed(self.model))
                continue
            key, _, text = typed.partition("=")
            at: KeyPath = tuple(key.strip().split("."))
            if not is_secret_field(self.model, at):
                _put(found, at, plain_scalar(text.strip()))
                continue
            if text:
                yield from say(f"{key} is a secret, and was seen; it is asked for again, unseen")
            _put(found, at, (yield from self._secret(at, None, required=True)))


def _asked(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """The fields that nobody can do without, and those that a person looks for first."""
    fields = [(info.alias or name, info) for name, info in model.model_fields.items()]
    return [(key, info) for key, info in fields if info.is_required() or key in _USUAL]


def _setting(model: type[BaseModel]) -> Callable[[str], str]:
    """A check that a key is one of the model's, as far as the model says."""

    def check(typed: str) -> str:
        key, equals, _ = typed.strip().partition("=")
        if key in ("", "?"):
            return key
        at = tuple(key.strip().split("."))
        parent = model_at(model, at[:-1]) if len(at) > 1 else model
        known = sorted(fields_of(parent)) if parent is not None else [at[-1]]
        if at[-1] not in known:
            near = get_close_matches(at[-1], known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`?` lists the settings"
            raise ValueError(f"there is no setting {key!r}; {hint}")
        if not equals and not is_secret_field(model, at):
            raise ValueError(f"say its value as well: {key}=...")
        return typed.strip()

    return check


def _listed(model: type[BaseModel]) -> str:
    lines = []
    for key, info in sorted((info.alias or name, info) for name, info in model.model_fields.items()):
        inner = model_in(info.annotation)
        deeper = f" ({', '.join(f'{key}.{name}' for name in fields_of(inner))})" if inner is not None else ""
        lines.append(f"  {key}{deeper}{f'  {info.description}' if info.description else ''}")
    return "\n".join(lines)


def _default(info: FieldInfo) -> object:
    """What a field is where nobody says it; empty where that is nothing or no plain value."""
    if not isinstance(info.default, str | int | float) or isinstance(info.default, Enum):
        return ""
    return info.default


def _explained(info: FieldInfo, *, required: bool, has_default: bool) -> str:
    options = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    told = " or ".join(map(str, options)) or (info.description or "")
    if not required and not has_default:
        told = f"{told}; Enter for none" if told else "Enter for none"
    return f" ({told})" if told else ""


def _needed(typed: str) -> str:
    if not typed:
        raise ValueError("is needed")
    return typed


def _checked(info: FieldInfo, *, required: bool) -> Callable[[str], str]:
    """A check by the model's own rules for this field; references are looked up when they are used."""

    def check(typed: str) -> str:
        typed = typed.strip()
        if required:
            _needed(typed)
        if not typed or "${" in typed:
            return typed
        allowed: Any = Annotated[info.annotation, info]
        try:
            TypeAdapter(allowed).validate_python(typed)
        except ValidationError as wrong:
            message = wrong.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(message[:1].lower() + message[1:]) from None
        return typed

    return check


def _put(values: dict[str, Value], at: KeyPath, value: Value) -> None:
    for part in at[:-1]:
        inner = values.get(str(part))
        if not isinstance(inner, dict):
            inner = values[str(part)] = {}
        values = inner
    values[str(at[-1])] = value
