"""One stream of a snapshot whose rows come after its rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.contracts import Extract
from atlas_etl.errors import DataError
from atlas_etl.model import (
    Checkpoint,
    CursorValue,
    NextTail,
    ParentBound,
    ReadOutline,
    RefusedRow,
    Rule,
    TableName,
)
from atlas_etl.protection.keys import KeyHolder
from atlas_etl.protection.rules import protected, protected_column, protected_schema
from atlas_etl.protection.unseen import told_without_values, without_values

Told: TypeAlias = Callable[[Sequence[ParentBound] | None], str]
_MOST_BYTES = 256 * 1024 * 1024  # at once: what a rule makes of them has to fit a column of text


class ProtectedExtract:
    """One stream of one snapshot (contracts.Extract), after its rules."""

    wire_format = None  # rows that pass undecoded would pass as they are

    def __init__(self, unprotected: Extract, rules: Mapping[str, Rule], keys: KeyHolder, told: Told) -> None:
        """`told` is what a checkpoint with these bounds of parents says of the rules."""
        self._unprotected = unprotected
        self._rules = rules
        self._keys = keys
        self._told = told
        self._rows = 0
        self._empty = set(rules)  # columns that had no value so far
        self.schema = protected_schema(unprotected.schema, rules)

    @property
    def primary_key(self) -> tuple[str, ...]:
        return self._unprotected.primary_key

    @property
    def key_is_unique(self) -> bool:
        return self._unprotected.key_is_unique

    @property
    def tables(self) -> frozenset[TableName]:
        return self._unprotected.tables

    def place(self) -> str | None:
        return self._unprotected.place()

    @property
    def estimated_rows(self) -> int | None:
        return self._unprotected.estimated_rows

    @property
    def next_tail(self) -> NextTail | None:
        return self._unprotected.next_tail

    def batches(self) -> Iterator[pa.RecordBatch]:
        with without_values(self._rules):
            for batch in self._unprotected.batches():
                self._rows += batch.num_rows
                self._empty -= {
                    name for name in self._empty if batch.column(name).null_count < batch.num_rows
                }
                for piece in _pieces(batch):
                    yield protected(piece, self._rules, self._keys)

    def wire_batches(self) -> Iterator[pa.RecordBatch]:
        return self.batches()

    def outline(self) -> ReadOutline:
        return self._unprotected.outline()

    def interrupt(self) -> None:
        self._unprotected.interrupt()

    def reached(self) -> Checkpoint | None:
        return self._marked(self._unprotected.reached())

    def checkpoint(self) -> Checkpoint | None:
        return self._marked(self._unprotected.checkpoint())

    def nulled(self) -> Mapping[str, int]:
        return self._unprotected.nulled()

    def refused(self) -> Sequence[RefusedRow]:
        return [self._hidden(found) for found in self._unprotected.refused()]

    def again(
        self,
        *,
        since: CursorValue | None = None,
        until: CursorValue | None = None,
        after: CursorValue | None = None,
    ) -> ProtectedExtract:
        other = self._unprotected.again(since=since, until=until, after=after)
        return ProtectedExtract(other, self._rules, self._keys, self._told)

    def warnings(self) -> Sequence[str]:
        own = [
            f"`protect` names the column {name!r}, which had no value in any of {self._rows:,} rows"
            for name in sorted(self._empty)
            if self._rows
        ]
        return (*self._unprotected.warnings(), *own)

    def text_forms(self) -> Mapping[str, str]:
        return {}

    def checksums(self, columns: Sequence[str], *, until: CursorValue | None = None) -> None:
        """Of values that are not as the source has them it cannot tell any."""

    def _marked(self, checkpoint: Checkpoint | None) -> Checkpoint | None:
        return checkpoint and replace(checkpoint, protection=self._told(checkpoint.parents))

    def _hidden(self, refused: RefusedRow) -> RefusedRow:
        texts = {
            name: protected_column(pa.array([text], pa.string()), self._rules[name], self._keys)[0].as_py()
            if name in self._rules
            else text
            for name, text in refused.texts.items()
        }
        row = protected(refused.row, self._rules, self._keys)
        why = told_without_values(refused.why, self._rules)
        return RefusedRow(row, why if isinstance(why, DataError) else refused.why, texts)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.nbytes <= _MOST_BYTES or batch.num_rows <= 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))
