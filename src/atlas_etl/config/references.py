"""References in the scalars of a file: `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}`, `${secret:N}`

Only text that a file holds is expanded, after it was parsed, and exactly once: what a reference
stands for is never looked at again, and neither are values from the environment or from a program.
`$${` stands for `${`. Every other `${` must be a reference that can be read.

`env` and `file` are looked up here. The other kinds need stores and programs, which whoever opens a project
passes in; they stand in connections only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote

from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.layers import Layered, Origin
from atlas_etl.config.regular import open_regular
from atlas_etl.errors import ConfigError, nearest

MAX_FILE_BYTES = 1024 * 1024

_MARK = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_SCHEME = re.compile(r"[a-z][a-z0-9_-]{0,15}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPE_HINT = "write $${ for a literal ${"

KINDS = ("env", "file", "secret", "keyring", "cmd", "vault", "aws-sm", "gcp-sm")


@dataclass(frozen=True, slots=True)
class ReferenceContext:
    """What references are looked up in: the folder of relative paths, the environment, and by kind the rest.

    A lookup gets what stands behind the kind's colon, and raises ConfigError without saying where it stands.
    """

    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    lookups: Mapping[str, Callable[[str], str]] = field(default_factory=dict, repr=False)

    def looking_in(self, lookups: Mapping[str, Callable[[str], str]]) -> ReferenceContext:
        """The same with these lookups in the place of its own."""
        return dataclasses.replace(self, lookups=lookups)

    def remembering(self) -> ReferenceContext:
        """The same, asking no place twice for one thing."""
        return self.looking_in({kind: cache(look) for kind, look in self.lookups.items()})


@dataclass(frozen=True, slots=True)
class Expanded:
    """Values whose references are replaced, and the text of those scalars that held one."""

    values: dict[str, object] = field(repr=False)
    references: Mapping[KeyPath, str]


def _environment(name: str, context: ReferenceContext) -> str:
    name, separator, default = name.partition(":-")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "an `env` reference needs a variable's name", hint="${env:NAME}", code="reference_syntax"
        )
    value = context.environ.get(name)
    if separator and not value:
        return default
    if value is None:
        hint = f"set it, or give a default: ${{env:{name}:-default}}"
        raise ConfigError(f"environment variable {name} is not set", hint=hint, code="missing_variable")
    return value


def _file(path: str, context: ReferenceContext) -> str:
    if not path:
        raise ConfigError("a `file` reference needs a path", hint="${file:PATH}", code="reference_syntax")
    try:
        return _text_of(context.folder / Path(path).expanduser())
    except OSError as error:
        why = f"file {path} cannot be read: {error.strerror}"
    except ValueError:
        why = f"file {path} is not a file of UTF-8 text of at most {MAX_FILE_BYTES} bytes"
    except RuntimeError:
        why = f"file {path} cannot be read: no such home folder"
    raise ConfigError(why, hint=f"relative paths begin at {context.folder}", code="missing_file")


def _text_of(path: Path) -> str:
    with open_regular(path) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES or b"\0" in content:
        raise ValueError
    return content.decode("utf-8-sig").rstrip("\r\n")


_RESOLVERS: Mapping[str, Callable[[str, ReferenceContext], str]] = {"env": _environment, "file": _file}


def is_reference(text: str) -> bool:
    """Whether a text is one reference, of a kind that there is, and nothing else."""
    match = _MARK.fullmatch(text)
    return match is not None and match[1] is not None and match[1].partition(":")[0] in (*_RESOLVERS, *KINDS)


def holds_reference(text: str) -> bool:
    """Whether a text holds anything that `expand` would replace or refuse."""
    return "${" in text


def files_in(text: str, context: ReferenceContext) -> list[Path]:
    """The files that a text refers to."""
    found = (match[1] or "" for match in _MARK.finditer(text))
    return [
        context.folder / Path(reference.removeprefix("file:")).expanduser()
        for reference in found
        if reference.startswith("file:")
    ]


def referred(text: str, context: ReferenceContext) -> Iterator[tuple[str, str, str]]:
    """Each reference of a text: its kind, what stands behind the colon, and what it stands for.

    Raises ConfigError.
    """
    for match in _MARK.finditer(text):
        if match[0] != "$${":
            kind, _, rest = (match[1] or "").partition(":")
            yield kind, rest, _resolved(match[1], context)


def literal(text: str) -> str | None:
    """What a text without references stands for: the same, but for `$${`; None where it has a reference."""
    if any(found[0] != "$${" for found in _MARK.finditer(text)):
        return None
    return text.replace("$${", "${")


def expand(layered: Layered, context: ReferenceContext, below: KeyPath = ()) -> Expanded:
    """Replace every reference in the scalars that come from a file; `below` is where these keys stand in it.

    Raises ConfigError naming the file and line, the key and the reference, never a value.
    """
    references: dict[KeyPath, str] = {}

    def walk(value: object, path: KeyPath) -> object:
        if isinstance(value, dict):
            return {key: walk(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and holds_reference(value):
            origin = layered.origin(path)
            if origin is not None and origin.file is not None and not origin.expanded:
                references[path] = value
                return expand_text(value, (*below, *path), origin, context)
        return value

    values = {key: walk(value, (key,)) for key, value in layered.values.items()}
    return Expanded(values, references)


def expand_text(
    text: str,
    path: KeyPath,
    origin: Origin,
    context: ReferenceContext,
    written: Callable[[str], str] = lambda value: value,
) -> str:
    """Replace every reference of one scalar by what it stands for, as it is `written` there.

    Raises ConfigError, as `expand` does.
    """

    def replace(match: re.Match[str]) -> str:
        return "${" if match[0] == "$${" else written(_resolved(match[1], context))

    try:
        return _MARK.sub(replace, text)
    except ConfigError as problem:
        place = f"{origin.place}: {dotted(path)}" if path else origin.place
        raise ConfigError(f"{place}: {problem.message}", hint=problem.hint, code=problem.code) from None


def expand_uri(text: str, path: KeyPath, origin: Origin, context: ReferenceContext) -> str:
    """The same for a URI: a reference that is a part of it stands for that part's plain text, unescaped.

    One that is all of it stands for a URI.
    """
    is_part = "://" in text and not is_reference(text)
    return expand_text(text, path, origin, context, (lambda value: quote(value, safe="")) if is_part else str)


def _resolved(reference: str | None, context: ReferenceContext) -> str:
    if reference is None:
        raise ConfigError(
            "a ${ without its closing brace, or with one inside", hint=_ESCAPE_HINT, code="reference_syntax"
        )
    kind, colon, rest = reference.partition(":")
    if not colon or not _SCHEME.fullmatch(kind):
        hint = f"${{env:NAME}}, ${{file:PATH}} or ${{secret:NAME/FIELD}}; {_ESCAPE_HINT}"
        raise ConfigError("a ${...} that does not say what it refers to", hint=hint, code="reference_syntax")
    if kind in _RESOLVERS:
        return _RESOLVERS[kind](rest, context)
    if kind in context.lookups:
        return context.lookups[kind](rest)
    if kind in KINDS:
        why = f"a `{kind}` reference has no place here"
        raise ConfigError(why, hint="it can stand in connections and destinations", code="reference_place")
    hint = nearest(kind, KINDS) or f"known: {', '.join(KINDS)}; {_ESCAPE_HINT}"
    raise ConfigError(f"unknown kind of reference {kind!r}", hint=hint, code="unknown_reference")
