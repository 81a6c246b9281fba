"""Which kind of personal data a column holds, by its name and a sample of its values, and how surely."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.config.yaml_source import Value
from atlas_etl.protection.kinds import KINDS, Kind

BY_NAME = 0.5  # the confidence that a name alone gives
LEAST = 0.3  # what is less sure is not told
_MOST_VALUES = 1_000  # that are different; checks take microseconds each
_SHORT = 100  # characters: longer values are texts in which others may stand
_CONTRADICTED = 0.05  # where so few values pass that should, they are written otherwise, or are no such ones
_IN_DOUBT = 0.35  # what a name gives then
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class Finding(Struct, frozen=True):
    """What one column seems to hold."""

    column: str
    kind: Kind
    confidence: float  # 0 to 1
    by: tuple[str, ...]  # `name`, `content`, or both
    share: float | None  # of the different values that were checked, how many are of the kind
    checked: int  # different values


def found_in(name: str, column: pa.ChunkedArray | pa.Array) -> Finding | None:
    """The kind that a column most likely is of; None where none is likely."""
    texts = sample_of(column)
    findings = [found for kind in KINDS if (found := _judged(name, kind, texts, column.type)) is not None]
    return max(findings, key=lambda found: (found.confidence, len(found.by)), default=None)


def sample_of(column: pa.ChunkedArray | pa.Array) -> Sequence[str]:
    """Some of the column's different values, as text, without blanks around them."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    texts = values.to_text(whole).cast(pa.string()).drop_null().unique()
    trimmed = pc.utf8_trim_whitespace(texts.slice(0, _MOST_VALUES))
    return [text for text in trimmed.to_pylist() if text]


def words_of(name: str) -> str:
    """A column's name in lower-case words: `customerEMail`, `customer_e-mail` -> `customer e mail`."""
    return " ".join(_WORDS.findall(name)).lower()


def _judged(name: str, kind: Kind, texts: Sequence[str], type_: pa.DataType) -> Finding | None:
    by_name = _is_called(name, kind) and not pa.types.is_boolean(type_)
    if not kind.shape:
        fits = by_name and (bool(texts) or pa.types.is_null(type_))
        return Finding(name, kind, BY_NAME, ("name",), None, len(texts)) if fits else None
    share = _share(kind, texts)
    surplus = max(0.0, (share - kind.chance) / (1 - kind.chance))
    by_content = surplus * kind.certainty * len(texts) / (len(texts) + 1)
    named = (BY_NAME if share >= _CONTRADICTED or not texts else _IN_DOUBT) if by_name else 0.0
    confidence = 1 - (1 - by_content) * (1 - named)
    if confidence < LEAST:
        return None
    means = {"name": by_name, "content": by_content >= LEAST}
    how = tuple(mean for mean, holds in means.items() if holds)
    return Finding(name, kind, round(confidence, 2), how, round(share, 3), len(texts)) if how else None


def _share(kind: Kind, texts: Sequence[str]) -> float:
    shape = re.compile(kind.shape)
    fitting = (text for text in texts if len(text) <= _SHORT and shape.fullmatch(text))
    passed = sum(1 for text in fitting if kind.check is None or kind.check(text))
    return passed / len(texts) if texts else 0.0


def _is_called(name: str, kind: Kind) -> bool:
    return bool(kind.names and re.search(rf"(?:^| )(?:{kind.names})$", words_of(name)))


def proposal(
    findings: Sequence[Finding], *, key: Sequence[str] = (), cursor: str | None = None
) -> dict[str, Value]:
    """The `protect` of a definition that these findings call for, as it is written in YAML."""
    rules: dict[str, Value] = {}
    for found in findings:
        rule = found.kind.rule
        if found.column == cursor:
            continue
        kept: dict[str, Value] = {}
        if rule.keep_first:
            kept["keep_first"] = rule.keep_first
        if rule.keep_last:
            kept["keep_last"] = rule.keep_last
        if found.column in key and not rule.tells_apart:
            rules[found.column] = "hash"
        else:
            rules[found.column] = {str(rule.how): kept} if kept else str(rule.how)
    return rules
