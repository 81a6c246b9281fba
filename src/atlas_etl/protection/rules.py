"""Rules applied to columns: what becomes of values, and of their types."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.model import Protection, Rule
from atlas_etl.protection.keys import KeyHolder
from atlas_etl.protection.pseudonyms import hashes, tokens

_HIDDEN = "***"  # as long for every value


def protected_schema(schema: pa.Schema, rules: Mapping[str, Rule]) -> pa.Schema:
    """What `protected` makes of batches: a column with a rule is text, whatever it was."""
    return pa.schema(
        [pa.field(each.name, pa.string(), each.nullable) if each.name in rules else each for each in schema]
    )


def protected(batch: pa.RecordBatch, rules: Mapping[str, Rule], keys: KeyHolder) -> pa.RecordBatch:
    """The batch after its rules."""
    columns = [
        protected_column(column, rules[name], keys) if name in rules else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=protected_schema(batch.schema, rules))


def protected_column(column: pa.Array, rule: Rule, keys: KeyHolder) -> pa.Array:
    """The column after a rule, as text; a value counts by its text form, so 42 and `42` are the same."""
    texts = _plain(column)
    match rule.how:
        case Protection.HASH:
            return hashes(keys.made().hashing, texts)
        case Protection.TOKENIZE:
            return tokens(keys.made().tokens, texts)
        case Protection.MASK:
            return masked(texts, rule)
        case Protection.DROP:
            return pa.nulls(len(texts), pa.string())


def masked(texts: pa.Array, rule: Rule) -> pa.Array:
    """`***` and the characters that stay; one that has no more than these is hidden whole."""
    hidden = pa.scalar(_HIDDEN, pa.string())
    whole = pc.if_else(pc.is_valid(texts), hidden, pa.scalar(None, pa.string()))
    kept = rule.keep_first + rule.keep_last
    if not kept:
        return whole
    parts = [hidden]
    if rule.keep_first:
        parts.insert(0, pc.utf8_slice_codeunits(texts, 0, rule.keep_first))
    if rule.keep_last:
        parts.append(pc.utf8_slice_codeunits(texts, -rule.keep_last))
    return pc.if_else(pc.greater(pc.utf8_length(texts), kept), pc.binary_join_element_wise(*parts, ""), whole)


def _plain(column: pa.Array) -> pa.Array:
    """The text form, without the zeros that only a decimal's scale adds: 1.50 is 1.5."""
    texts = values.to_text(column).cast(pa.string())
    if pa.types.is_decimal(column.type) and column.type.scale > 0:
        return pc.replace_substring_regex(texts, r"\.?0+$", "")
    return texts
