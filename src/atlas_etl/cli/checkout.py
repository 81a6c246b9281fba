"""A checkout of Atlas, to which a new protocol is added: its files, and its lines in those that are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from atlas_etl.cli.new_protocol import NewProtocol, rendered
from atlas_etl.errors import UsageError

_REGISTRY = "src/atlas_etl/connectors/registry.py"
_CASES = "tests/contract/connector_cases.py"
_PYPROJECT = "pyproject.toml"
_SITE = "mkdocs.yml"


class Family(StrEnum):
    """Which protocols a new one stands beside."""

    DOCUMENTS = "documents"
    STREAMS = "streams"
    SQL = "sql"
    HTTP = "http"
    FILES = "files"

    @property
    def summary(self) -> str:
        """Of a family that has no protocol yet."""
        return "Systems of messages." if self is Family.STREAMS else "Systems of documents and records."


class Changes(Struct, frozen=True):
    """Whole texts by path; `edited` are of files that are there."""

    new: dict[Path, str]
    edited: dict[Path, str]


def find_checkout(start: Path) -> Path | None:
    """The nearest folder upwards that holds Atlas's own sources and tests."""
    for folder in (start, *start.parents):
        if (folder / _REGISTRY).is_file() and (folder / _CASES).is_file():
            return folder
    return None


def changes(root: Path, protocol: NewProtocol, family: Family) -> Changes:
    """Everything that adds the protocol to this family.

    Raises UsageError where the checkout has the name already, or is not as this version knows it.
    """
    name = protocol.name
    folder = root / "src/atlas_etl/connectors" / family
    new = {
        folder / f"{name}.py": rendered("protocol.py", protocol),
        root / "examples" / f"{name}.yaml": rendered("example.yaml", protocol),
        root / "docs/protocols/_notes" / f"{name}.md": rendered("notes.md", protocol),
        root / "tests/contract" / f"{name}_source.py": rendered("source.py", protocol),
    }
    if not (folder / "__init__.py").exists():
        new[folder / "__init__.py"] = f'"""{family.summary}"""\n'
    return Changes(new, dict(_edited(root, protocol, family)))


def _edited(root: Path, protocol: NewProtocol, family: Family) -> Iterator[tuple[Path, str]]:
    name, driver = protocol.name, protocol.driver
    registry = root / _REGISTRY
    text = _read(registry)
    if re.search(rf'"{name}"', text):
        raise UsageError(
            f"{registry} has a protocol {name!r} already",
            hint="choose another name",
            code="protocol_exists",
        )
    needs = f', extra="{name}", requires=("{driver.module}",)' if driver else ""
    line = (
        f'    ProtocolInfo(\n        "{name}", "atlas_etl.connectors.{family}.{name}",\n'
        f'        "{protocol.summary}",\n        writes=False{needs},\n    ),\n'
    )
    yield registry, _inserted(registry, text, r"_BUILT_IN = \(\n(?s:.*?)(?=^\))", line)

    cases = root / _CASES
    line = f"from tests.contract.{name}_source import {protocol.camel}Source\n"
    text = _replaced(cases, _read(cases), r"(?:^from tests\.contract\.\w+ import .*\n)+", _sorted_in(line))
    made = f'ConnectorCase("{name}", {protocol.camel}Source, lambda _, f: {{"folder": str(f / "{name}")}})'
    yield cases, _inserted(cases, text, r"^CONNECTORS = \(\n(?s:.*?)(?=^\))", f"    {made},\n")

    site = root / _SITE
    line = f"          - {name}: protocols/{name}.md\n"
    yield site, _replaced(site, _read(site), r"(?:^ +- \w+: protocols/\w+\.md\n)+", _sorted_in(line))

    if driver:
        pyproject = root / _PYPROJECT
        text = _read(pyproject)
        extra = f'{name} = ["{driver.requirement}"]\n'
        text = _inserted(pyproject, text, r"^\[project\.optional-dependencies\]\n", extra)
        yield pyproject, _inserted(pyproject, text, r"^dev = \[\n", f'  "{driver.requirement}",\n')


def _sorted_in(line: str) -> Callable[[str], str]:
    """Lines that are in order, with one more."""
    return lambda there: "".join(sorted({*there.splitlines(keepends=True), line}))


def _inserted(file: Path, text: str, before: str, line: str) -> str:
    """The text with a line behind what a pattern finds."""
    return _replaced(file, text, before, lambda there: there + line)


def _replaced(file: Path, text: str, pattern: str, by: Callable[[str], str]) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise UsageError(
            f"{file} is not as this version of Atlas knows it: nothing was written",
            hint="use the `atlas` of this checkout: .venv/bin/atlas",
            code="unknown_checkout",
        )
    return text[: found.start()] + by(found[0]) + text[found.end() :]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as failure:
        raise UsageError(f"{file} cannot be read: {failure.strerror}", code="unknown_checkout") from failure
