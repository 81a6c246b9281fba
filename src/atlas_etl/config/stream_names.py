"""What the streams of a definition are called: as it says itself, or after the table or files that they read.

Shell completion runs this: the standard library and PyYAML only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from atlas_etl.config.folder import definition_path
from atlas_etl.config.layers import LayerKind, file_layer, merge
from atlas_etl.config.older_form import from_older_form, is_older_form
from atlas_etl.config.project_folder import shown
from atlas_etl.config.references import ReferenceContext, expand
from atlas_etl.config.yaml_source import read_mapping

_PART = re.compile(r'"(?:[^"]|"")*"|`(?:[^`]|``)*`|[^."`]+')
_PARTS = re.compile(rf"(?:{_PART.pattern})(?:\.(?:{_PART.pattern}))*")
_FILE_ENDINGS = re.compile(r"(?:\.[A-Za-z0-9]+)?(?:\.(?:gz|gzip|zst|zstd|bz2))?$", re.IGNORECASE)
_GLOB = re.compile(r"[*?\[\]{}]")


def stream_names(
    project: Path,
    connector: str,
    environ: Mapping[str, str],
    preset: Callable[[str], Path | None] = lambda _protocol: None,
) -> list[str]:
    """The streams that a definition names, in its order, or where it names none the resources of its API.

    `preset` finds the file of which a protocol is made. Nothing else of the definition is checked, and no
    folder of files is looked at. Raises ConfigError where the definition cannot be read, or there is none.
    """
    path = definition_path(project, connector)
    file = shown(path, project)
    document = read_mapping(path, file)
    if is_older_form(document.values):
        document = from_older_form(document, file)
    written = merge([file_layer(LayerKind.FILE, document, file)])
    known = expand(written.without("connection"), ReferenceContext(project, environ)).values
    streams = known.get("streams")
    if not streams:
        return _offered(written.values.get("connection"), preset(str(known.get("protocol"))))
    names = [_name(stream) for stream in streams] if isinstance(streams, list) else []
    return [name for name in names if name]


def _offered(connection: object, preset: Path | None) -> list[str]:
    """The resources of an API: those that its connection describes, or its preset for it."""
    given = _mapping(connection)
    if preset is None:
        return list(_mapping(given.get("resources")))
    described = read_mapping(preset, preset.name).values
    more = [given.get(field) for field in _mapping(described.get("each"))]
    texts = [text for each in more for text in (each if isinstance(each, list) else [each]) if text]
    return [*map(str, texts), *_mapping(_mapping(described["connection"]).get("resources"))]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _name(stream: object) -> str | None:
    if not isinstance(stream, Mapping):
        return derived_name({"table": stream})
    return derived_name(stream) if stream.get("name") is None else str(stream["name"])


def derived_name(stream: Mapping[str, object]) -> str | None:
    """What a stream that has no name of its own is called; None where nothing says it."""
    table, path = stream.get("table"), stream.get("path")
    if isinstance(table, str | int | float) and table != "":
        # A quote that does not enclose a part is a character of the name, and then so is every dot.
        part = _PART.findall(str(table))[-1] if _PARTS.fullmatch(str(table)) else str(table)
        return part[1:-1].replace(part[0] * 2, part[0]) if part[0] in '"`' and len(part) > 2 else part
    return _name_of_path(path) if isinstance(path, str) else None


def _name_of_path(path: str) -> str | None:
    """`data/orders-*.csv.gz` is `orders`; where the file is all wildcard, the folder names the stream."""
    parts = [
        part for part in re.split(r"[/\\]", path.partition("://")[2] or path) if part not in ("", ".", "..")
    ]
    for index, part in enumerate(reversed(parts)):
        stem = _FILE_ENDINGS.sub("", part) if index == 0 else part
        name = _GLOB.split(stem)[0].strip("-_. ")
        if name:
            return name
    return None
