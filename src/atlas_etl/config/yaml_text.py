"""Writing values as YAML that `yaml_source` reads back as they were, and other readers as the same text."""

from __future__ import annotations

import re
import sys

import yaml

from atlas_etl.config.scalars import is_sexagesimal, plain_scalar
from atlas_etl.config.yaml_source import Value

_TEXT_TAG = "tag:yaml.org,2002:str"
_LINE_BREAK = re.compile(r"[\n\r\x85\u2028\u2029]")


class _Dumper(yaml.SafeDumper):
    """Block style, keys as ordered, and quotes around every text that a reader could take otherwise."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if _is_block(text) else None
        if style is None and (is_sexagesimal(text) or plain_scalar(text) != text or _LINE_BREAK.search(text)):
            style = '"'
        return self.represent_scalar(_TEXT_TAG, text, style=style)

    def represent_number(self, number: float) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:float", repr(number))


def _is_block(text: str) -> bool:
    # A query of several lines stays readable; PyYAML itself falls back where a block cannot hold the text.
    return "\n" in text.rstrip("\n") and re.search(r"[^\S\n]\n|[^\S\n ]", text) is None


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(float, _Dumper.represent_number)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"-?[0-9]+(\.[0-9]+)?e[-+][0-9]+"), list("-0123456789")
)


def dump(values: Value) -> str:
    """The values as YAML text, a line each. Numbers must be finite: `yaml_source` reads no others."""
    return _dump(values, flow=False)


def dump_inline(value: Value) -> str:
    """The value as it stands after `key: ` on one line; mappings and lists in braces and brackets."""
    return _dump([value], flow=True).removeprefix("[").removesuffix("]\n")


def _dump(values: Value, *, flow: bool) -> str:
    # Lines are never folded: a query or a token stays in one piece for whoever searches for it.
    text: str = yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=sys.maxsize,
        default_flow_style=flow,
    )
    return text
