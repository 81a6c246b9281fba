"""What `atlas dev new-protocol` writes: names checked, and files made of the templates."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from keyword import iskeyword

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from atlas_etl.connectors import registry
from atlas_etl.errors import ConfigError, UnknownProtocolError, UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST_NAME, _LONGEST_SUMMARY = 30, 80
_REQUIREMENT = re.compile(
    r"([A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*)(\[[A-Za-z0-9,._-]+\])?([<>=!~][<>=!~.,*0-9a-z]*)?"
)


class Driver(Struct, frozen=True):
    """The package that a protocol needs: `requirement` is what pip installs, `module` what Python imports."""

    requirement: str
    module: str


class NewProtocol(Struct, frozen=True):
    """A protocol that is to be written."""

    name: str
    summary: str
    driver: Driver | None = None

    @property
    def camel(self) -> str:
        """What its classes begin with."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    @property
    def package(self) -> str:
        """What Python imports of a package of its own."""
        return f"atlas_{self.name}"

    @property
    def distribution(self) -> str:
        """What pip calls that."""
        return self.package.replace("_", "-")


def new_protocol(name: str, summary: str | None, driver: str | None) -> NewProtocol:
    """A protocol of this name, summary and driver. Raises UsageError where one of them cannot be."""
    _check_name(name)
    return NewProtocol(name, _checked_summary(summary or f"{name}'s records"), _driver(driver))


def rendered(template: str, protocol: NewProtocol) -> str:
    """The text of one template."""
    pages = Environment(
        loader=PackageLoader("atlas_etl.cli", "templates/new_protocol"),
        autoescape=False,  # noqa: S701  # these are programs, not pages
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template(f"{template}.jinja").render(
        name=protocol.name,
        camel=protocol.camel,
        package=protocol.package,
        distribution=protocol.distribution,
        summary=protocol.summary,
        driver=protocol.driver,
    )


def package_files(protocol: NewProtocol) -> Mapping[str, str]:
    """A package of its own that adds the protocol: texts by path."""
    name = protocol.name
    return {
        "pyproject.toml": rendered("pyproject.toml", protocol),
        f"src/{protocol.package}/__init__.py": rendered("protocol.py", protocol),
        f"tests/{name}_source.py": rendered("source.py", protocol),
        f"tests/test_{name}.py": rendered("test.py", protocol),
        "example.yaml": rendered("example.yaml", protocol),
    }


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or iskeyword(name) or len(name) > _LONGEST_NAME:
        like = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:_LONGEST_NAME].strip("_")
        if not _NAME.fullmatch(like) or iskeyword(like):
            like = "my_system"
        raise UsageError(
            f"{name!r} cannot be a protocol's name: small letters, digits and single underscores, "
            f"a letter first, at most {_LONGEST_NAME}, and no word of Python's own",
            hint=f"for example {like}",
            code="protocol_name",
        )
    try:
        summary = registry.info(name).summary
    except UnknownProtocolError:
        return
    except ConfigError:  # of a package that cannot be loaded
        summary = "a package that cannot be loaded adds it"
    raise UsageError(
        f"there is a protocol {name!r} already: {summary}",
        hint="choose another name; `atlas connector types` lists those that are taken",
        code="protocol_exists",
    )


def _checked_summary(summary: str) -> str:
    if len(summary) > _LONGEST_SUMMARY or not summary.isprintable() or re.search(r'["\\]|^\s*$', summary):
        raise UsageError(
            f"a summary is one line of at most {_LONGEST_SUMMARY} characters, without quotes and backslashes",
            hint="it is what `atlas connector types` shows, for example: orders of Acme's shops",
            code="protocol_summary",
        )
    return summary


def _driver(requirement: str | None) -> Driver | None:
    if requirement is None:
        return None
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        raise UsageError(
            f"{requirement!r} is not what pip calls a package",
            hint="for example pymongo, or pymongo>=4.15",
            code="driver_name",
        )
    module = found[1].lower().replace("-", "_")
    if module in sys.stdlib_module_names:
        raise UsageError(
            f"{module!r} is part of Python: nothing has to be installed for it",
            hint="leave `--driver` out",
            code="driver_name",
        )
    return Driver(requirement, module)
