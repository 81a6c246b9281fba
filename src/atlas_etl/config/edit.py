"""Changing one key in a YAML text and nothing else, so that comments and layout stay.

The text is cut and pasted at the marks that PyYAML gives, and the result is read back: where it does
not say exactly what it should, the whole file is written anew instead.
"""

from __future__ import annotations

import json
import textwrap

import yaml

from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.yaml_source import Value, parse_mapping
from atlas_etl.config.yaml_text import dump, dump_inline
from atlas_etl.errors import ConfigError


def changed_text(text: str, at: KeyPath, value: Value, shown: str) -> str:
    """The text with one key set, or removed where the value is null.

    Raises ConfigError where the text cannot be read or the key cannot be reached.
    """
    values = parse_mapping(text, shown).values
    wanted = _changed(values, at, value, at)
    if _same(wanted, values):
        return text
    candidate = _edited(text, at, value)
    if candidate is not None and _reads_as(candidate, wanted, shown):
        return candidate
    return dump(wanted)


def _reads_as(text: str, wanted: Value, shown: str) -> bool:
    try:
        return _same(parse_mapping(text, shown).values, wanted)
    except ConfigError:
        return False


def _same(one: Value, other: Value) -> bool:
    # Python takes 1, 1.0 and True for equal; JSON does not.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _changed(container: Value, at: KeyPath, value: Value, whole: KeyPath) -> Value:
    head, rest = at[0], at[1:]
    if isinstance(container, list) and isinstance(head, int) and head < len(container):
        if rest:
            value = _changed(container[head], rest, value, whole)
        return [*container[:head], value, *container[head + 1 :]]
    if (container is None or isinstance(container, dict)) and isinstance(head, str):
        mapping = container or {}
        if rest:
            value = _changed(mapping.get(head), rest, value, whole)
        elif value is None:
            return {key: item for key, item in mapping.items() if key != head}
        return {**mapping, head: value}
    above, hint = whole[: -len(at)], None
    if isinstance(container, list):
        hint = f"{dotted(above)} is a list, whose items are numbered: {dotted((*above, 0, *rest))}"
    raise ConfigError(
        f"{dotted(whole)} cannot be set: {dotted((*above, head))} is not there",
        hint=hint,
        code="no_such_key",
    )


def _edited(text: str, at: KeyPath, value: Value) -> str | None:
    """The text with the change pasted in, unverified; None where there is no place for it."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    if root is None:
        return _with_line_end(text) + dump(_nested(at, value))
    node, key, missing = root, None, at
    while missing:
        found = _child(node, missing[0])
        if found is None:
            return _inserted(text, node, _nested(missing, value))
        (key, node), missing = found, missing[1:]
    return _removed(text, key, node) if value is None else _replaced(text, node, value)


def _nested(keys: KeyPath, value: Value) -> Value:
    for key in reversed(keys):
        value = {str(key): value}
    return value


def _with_line_end(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, item) for key, item in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None


def _replaced(text: str, node: yaml.Node, value: Value) -> str | None:
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        return None
    start, end = node.start_mark.index, node.end_mark.index
    after = "\n" if text[start:end].endswith("\n") else ""
    before = " " if text[:start].endswith(":") else ""
    return text[:start] + before + dump_inline(value) + after + text[end:]


def _removed(text: str, key: yaml.Node | None, node: yaml.Node) -> str | None:
    if key is None:
        return None
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    return text[:start] + text[_end(text, node) :]


def _inserted(text: str, node: yaml.Node, addition: Value) -> str | None:
    if isinstance(node, yaml.ScalarNode) and not node.value:
        return _replaced(text, node, addition)
    if not isinstance(node, yaml.MappingNode):
        return None
    if node.flow_style:
        brace = node.end_mark.index - 1
        entry = dump_inline(addition).removeprefix("{").removesuffix("}")
        return text[:brace].rstrip() + (", " if node.value else "") + entry + text[brace:]
    end = _end(text, node)
    lines = textwrap.indent(dump(addition), " " * node.start_mark.column)
    return _with_line_end(text[:end]) + lines + text[end:]


def _end(text: str, node: yaml.Node) -> int:
    """Where the line after the node's last one begins: a block's own end mark is past its comments."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        if isinstance(last, tuple):
            key, item = last
            # The node of an alias stands where its anchor is.
            last = item if item.start_mark.index > key.start_mark.index else key
        node = last
    end = node.end_mark.index
    if text[:end].endswith("\n"):
        return end
    return text.find("\n", end) + 1 or len(text)
