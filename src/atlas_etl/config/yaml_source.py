"""Reading YAML and JSON safely: plain values and their lines out of a text that may be sloppy or hostile.

Only PyYAML's event parser is used, never its constructors, so no tag can build an object. Errors name
the file, the line and the key, and never the content of a line, which may be a secret.

- A key given twice, a tag, a merge key (`<<`) and a second document are errors.
- `12:30:45` and `1:30` without quotes are errors: YAML 1.1 readers take them for numbers in base 60.
- Anchors and aliases may be used. They count as often as they are used, and against the same cap as
  everything else, so that a few lines cannot become a gigabyte; one that contains itself is an error.
- Keys are always text, as they are written. Values follow `scalars`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

import yaml

from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.regular import open_regular
from atlas_etl.config.scalars import is_sexagesimal, plain_scalar
from atlas_etl.errors import ConfigError

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

MAX_BYTES = 1024 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 64

_QUOTE_HINT = "put a value that begins with * & ! % @ ` { [ or contains ': ' in quotes"
# What the parser says of a text, and what is to be done; `{line}` is where it began what it could not end.
_HINTS = (
    ("'\\t'", "indent with spaces, not with tabs"),
    ("expected <block end>", "begin this line in the column of the lines that it belongs with"),
    (
        "expected ',' or",
        'close the bracket that line {line} opens; quote values with {{ }} [ ], as in "${{env:NAME}}"',
    ),
    ("unexpected end of stream", "close the quote that line {line} opens"),
    ("unknown escape", "write '...' in the place of \"...\": in it a backslash is itself"),
    ("could not find expected ':'", "write `key: value`, with a blank behind the colon"),
    (
        "mapping values",
        "begin this line in the column of the one above it, or put a value with ': ' in quotes",
    ),
)
_QUOTED = re.compile(r"'([^']*)'")
_HARMLESS = re.compile(r".|\\.|<[a-z ]+>")


@dataclass(frozen=True, slots=True)
class Document:
    """The values of one file, and the line (from 1) at which each key and list item begins."""

    values: Value = field(repr=False)
    lines: Mapping[KeyPath, int]


@dataclass(frozen=True, slots=True)
class MappingDocument:
    """A document whose top is a mapping, as every file of ours is."""

    values: dict[str, Value] = field(repr=False)
    lines: Mapping[KeyPath, int]

    def place(self, file: str, path: KeyPath) -> str:
        """`file:line` of a key, or of the nearest key above it."""
        line = next(
            (self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 0
        )
        return f"{file}:{line}" if line else file


def read_mapping(path: Path, shown: str) -> MappingDocument:
    """Read a YAML or JSON file whose top is a mapping; an empty file is an empty mapping.

    `shown` is how messages call the file. Raises ConfigError.
    """
    return parse_mapping(read_text(path, shown), shown)


def read_given_mapping(path: Path) -> MappingDocument:
    """The same of a file that the user names, which may be a pipe. Raises ConfigError."""
    shown = str(path)
    return parse_mapping(_decoded(_content(lambda: path.open("rb"), shown), shown), shown)


def parse_mapping(text: str, shown: str) -> MappingDocument:
    """The mapping that a text holds. Raises ConfigError."""
    document = parse(text, shown)
    if document.values is None:
        return MappingDocument({}, {})
    if not isinstance(document.values, dict):
        raise ConfigError(f"{shown} should hold `key: value` lines at its top", code="not_a_mapping")
    return MappingDocument(document.values, document.lines)


def read_text(path: Path, shown: str) -> str:
    """A configuration file's text, UTF-8, at most MAX_BYTES. Raises ConfigError."""
    return _decoded(read_bytes(path, shown), shown)


def read_bytes(path: Path, shown: str) -> bytes:
    """A configuration file as it is, at most MAX_BYTES. Raises ConfigError."""
    return _content(lambda: open_regular(path), shown)


def _content(opened: Callable[[], BinaryIO], shown: str) -> bytes:
    try:
        with opened() as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{shown} cannot be read: {error.strerror}", code="file_unreadable") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{shown} is larger than {MAX_BYTES} bytes", code="yaml_too_large")
    return content


def _decoded(content: bytes, shown: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{shown}:{line}: not UTF-8 text", hint="save the file as UTF-8", code="yaml_syntax"
        ) from None


def parse(text: str, shown: str) -> Document:
    """The one document of a YAML or JSON text. Raises ConfigError (see the module's docstring)."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{shown} is larger than {MAX_BYTES} bytes", code="yaml_too_large")
    reader = _DocumentReader(shown)
    try:
        return reader.read(yaml.parse(_without_json_tabs(text), Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, shown, reader) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{shown}:{line}: a control character that YAML does not allow", code="yaml_syntax"
        ) from None


def _without_json_tabs(text: str) -> str:
    # JSON is indented with tabs by many tools and PyYAML refuses them. In valid JSON a raw tab is
    # white space, for inside a string it must be written \t.
    if "\t" in text and text.lstrip()[:1] in ("{", "["):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return text
        return text.replace("\t", " ")
    return text


def _syntax_error(error: yaml.MarkedYAMLError, shown: str, reader: _DocumentReader) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    place = f"{shown}:{mark.line + 1}:{mark.column + 1}: " if mark else f"{shown}: "
    if mark and reader.latest and reader.lines[reader.latest] == mark.line + 1:
        place += f"{dotted(reader.latest)}: "
    problem = _QUOTED.sub(_harmless, error.problem or "broken off")
    began = (error.context_mark or mark).line + 1 if mark else 0
    hint = next((what.format(line=began) for words, what in _HINTS if words in problem), _QUOTE_HINT)
    return ConfigError(f"{place}not valid YAML: {problem}", hint=hint, code="yaml_syntax")


def _harmless(quoted: re.Match[str]) -> str:
    # PyYAML quotes its own token names and single characters, but also names that it found in the
    # text (an undefined tag handle), which may be a piece of a password.
    return quoted[0] if _HARMLESS.fullmatch(quoted[1]) else "'...'"


@dataclass(slots=True)
class _Anchor:
    value: Value = None
    nodes: int = 0
    complete: bool = False


@dataclass(slots=True)
class _DocumentReader:
    shown: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    anchors: dict[str, _Anchor] = field(default_factory=dict)
    nodes: int = 0
    latest: KeyPath = ()  # of a line of its own: what follows an unquoted { may be a broken secret

    def read(self, events: Iterator[yaml.Event]) -> Document:
        value: Value = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, (), "a second document begins here", "multiple_documents")
                value = self._value(next(events), events, ())
        return Document(value, self.lines)

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], path: KeyPath) -> Value:
        self._count(1, event, path)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        self._check_depth(len(path), event, path)
        anchor = _Anchor(nodes=self.nodes)
        name = getattr(event, "anchor", None)
        if name is not None:
            self.anchors[name] = anchor
        if isinstance(event, yaml.ScalarEvent):
            anchor.value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, path)
            anchor.value = self._sequence(events, path)
        elif isinstance(event, yaml.MappingStartEvent):
            self._check_tag(event, path)
            anchor.value = self._mapping(event, events, path)
        anchor.nodes = self.nodes - anchor.nodes
        anchor.complete = True
        return anchor.value

    def _alias(self, event: yaml.AliasEvent, path: KeyPath) -> Value:
        anchor = self.anchors.get(event.anchor or "")
        if anchor is None:
            why = "refers to an anchor (*...) that is not defined above it"
            raise self._error(event, path, why, "yaml_alias", _QUOTE_HINT)
        if not anchor.complete:
            raise self._error(event, path, "an anchor that contains itself", "yaml_alias")
        self._count(anchor.nodes, event, path)
        self._check_depth(len(path) + _depth(anchor.value), event, path)
        return copied(anchor.value)

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Value:
        self._check_tag(event, path)
        text = self._text(event, path)
        if event.style is not None or event.tag is not None:
            return text
        if is_sexagesimal(text):
            why = "YAML readers take an unquoted 12:30:45 for text or for a number in base 60"
            raise self._error(event, path, why, "yaml_sexagesimal", "put the value in quotes")
        return plain_scalar(text)

    def _sequence(self, events: Iterator[yaml.Event], path: KeyPath) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            place = (*path, len(items))
            self.lines[place] = _line(event)
            items.append(self._value(event, events, place))
        return items

    def _mapping(
        self, start: yaml.MappingStartEvent, events: Iterator[yaml.Event], path: KeyPath
    ) -> dict[str, Value]:
        items: dict[str, Value] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event, path)
            place = (*path, key)
            if key in items:
                why = f"this key is given twice (first on line {self.lines[place]})"
                raise self._error(event, place, why, "duplicate_key")
            self.lines[place] = _line(event)
            if not start.flow_style:
                self.latest = place
            items[key] = self._value(next(events), events, place)
        return items

    def _key(self, event: yaml.Event, path: KeyPath) -> str:
        if not isinstance(event, yaml.ScalarEvent) or (event.style is None and not event.value):
            raise self._error(event, path, "a key here is not text", "yaml_key", _QUOTE_HINT)
        self._count(1, event, path)
        self._check_tag(event, path)
        if event.style is None and event.value == "<<":
            hint = "write the keys out, or use an alias for a whole value"
            raise self._error(event, path, "merge keys (<<) are not supported", "yaml_merge_key", hint)
        return self._text(event, path)

    def _text(self, event: yaml.ScalarEvent, path: KeyPath) -> str:
        text: str = event.value
        try:
            # JSON writes characters past U+FFFF as two escapes, which PyYAML leaves apart.
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            why = "half of a surrogate pair (\\ud800 to \\udfff)"
            raise self._error(event, path, why, "yaml_syntax") from None

    def _check_tag(
        self, event: yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent, path: KeyPath
    ) -> None:
        allowed = {
            yaml.ScalarEvent: "tag:yaml.org,2002:str",
            yaml.SequenceStartEvent: "tag:yaml.org,2002:seq",
            yaml.MappingStartEvent: "tag:yaml.org,2002:map",
        }
        if event.tag not in (None, "!", allowed[type(event)]):
            raise self._error(event, path, "tags (!...) are not supported", "yaml_tag", _QUOTE_HINT)

    def _count(self, nodes: int, event: yaml.Event, path: KeyPath) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            why = f"more than {MAX_NODES} values, each use of an alias counted"
            raise self._error(event, path[:3], why, "yaml_too_large")

    def _check_depth(self, depth: int, event: yaml.Event, path: KeyPath) -> None:
        if depth > MAX_DEPTH:
            raise self._error(event, path[:3], f"nested deeper than {MAX_DEPTH} levels", "yaml_too_large")

    def _error(
        self, event: yaml.Event, path: KeyPath, why: str, code: str, hint: str | None = None
    ) -> ConfigError:
        key = f"{dotted(path)}: " if path else ""
        return ConfigError(f"{self.shown}:{_line(event)}: {key}{why}", hint=hint, code=code)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _depth(value: Value) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def copied(value: Value) -> Value:
    """The same lists and mappings, new: nobody's change reaches the original."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value
