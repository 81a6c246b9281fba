"""Layers of settings, merged deeply, and for every key the layer that set it.

A later layer wins. Mappings merge key by key; everything else, lists too, replaces what was there. A
null is a value like another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from atlas_etl.config.keys import KeyPath
from atlas_etl.config.yaml_source import MappingDocument


class LayerKind(StrEnum):
    """The kinds of layers, weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    DICT = "dict"
    OVERRIDE = "override"


class Origin(Struct, frozen=True):
    """Where one key's value was written: the layer, and the file and line or the variable.

    `expanded` marks what was taken out of a text whose references are replaced already.
    """

    kind: LayerKind
    file: str | None = None
    line: int | None = None
    variable: str | None = None
    expanded: bool = False

    @property
    def place(self) -> str:
        """`connectors.d/shop.yaml:7`, `SHOP_HOST`, or the layer's name where there is nothing closer."""
        if self.file is not None:
            return f"{self.file}:{self.line}" if self.line else self.file
        return self.variable or self.kind.value

    def __str__(self) -> str:
        return self.kind.value if self.place == self.kind.value else f"{self.kind.value} {self.place}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings; `origin_of` says where it wrote a key."""

    values: Mapping[str, object] = field(repr=False)
    origin_of: Callable[[KeyPath], Origin] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Layered:
    """The merged values, and the origin of every leaf: a scalar, a list or an empty mapping."""

    values: dict[str, object] = field(repr=False)
    origins: Mapping[KeyPath, Origin]

    def origin(self, path: KeyPath) -> Origin | None:
        """Who set this key, or the nearest key above it; for a mapping, who set its first key."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return next((found for at, found in self.origins.items() if at[: len(path)] == path), None)

    def under(self, *keys: str) -> Layered:
        """What is below these keys, as if it were the whole; nothing where there is no mapping."""
        value: object = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        depth = len(keys)
        origins = {at[depth:]: origin for at, origin in self.origins.items() if at[:depth] == keys}
        return Layered(value if isinstance(value, dict) else {}, origins)

    def without(self, *keys: str) -> Layered:
        """All but these keys of the top."""
        values = {key: value for key, value in self.values.items() if key not in keys}
        origins = {at: origin for at, origin in self.origins.items() if at[0] not in keys}
        return Layered(values, origins)

    def as_layer(self) -> Layer:
        """The same values as one layer of another merge, with the origins that they have."""
        unknown = Origin(LayerKind.DEFAULT)
        return Layer(self.values, lambda path: self.origin(path) or unknown)


def mapping_layer(kind: LayerKind, values: Mapping[str, object] | None) -> Layer:
    """A layer of values that a program gave."""
    origin = Origin(kind)
    return Layer(values or {}, lambda _path: origin)


def file_layer(kind: LayerKind, document: MappingDocument, file: str) -> Layer:
    """A layer of values that a file holds; `file` is how messages call it."""
    lines = document.lines
    return Layer(document.values, lambda path: Origin(kind, file=file, line=lines.get(path)))


def merge(layers: Iterable[Layer]) -> Layered:
    """Merge the layers, weakest first."""
    values: dict[str, object] = {}
    origins: dict[KeyPath, Origin] = {}
    for layer in layers:
        _merge_into(values, origins, layer, layer.values, ())
    return Layered(values, origins)


def _merge_into(
    target: dict[str, object],
    origins: dict[KeyPath, Origin],
    layer: Layer,
    source: Mapping[str, object],
    path: KeyPath,
) -> None:
    if source and path:
        origins.pop(path, None)
    for key, value in source.items():
        place = (*path, key)
        there = target.get(key)
        if isinstance(value, Mapping):
            if not isinstance(there, dict):
                if key in target:
                    _forget(origins, place)
                origins[place] = layer.origin_of(place)
                there = target[key] = {}
            _merge_into(there, origins, layer, value, place)
        else:
            if key in target:
                _forget(origins, place)
            target[key] = _copied(value)
            origins[place] = layer.origin_of(place)


def _forget(origins: dict[KeyPath, Origin], path: KeyPath) -> None:
    for gone in [at for at in origins if at[: len(path)] == path]:
        del origins[gone]


def _copied(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def settings(
    value: object, path: KeyPath = (), *, whole: Callable[[KeyPath], bool]
) -> Iterator[tuple[KeyPath, object]]:
    """What stands in a file, with its path: scalars, and lists of scalars; lists of mappings item by item.

    What is `whole` is not looked into: `password: {secret}` is a mapping whose key is the secret.
    """
    if path and whole(path):
        yield path, value
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from settings(item, (*path, key), whole=whole)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from settings(item, (*path, index), whole=whole)
    else:
        yield path, value


def leaves(values: Mapping[str, object], path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Every leaf with its path: scalars, lists and empty mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value
