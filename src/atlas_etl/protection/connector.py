"""A connector whose rows are protected: whoever reads from it never sees what a stream's rules hide."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.contracts import Connector, ExaminedSource, Extract
from atlas_etl.errors import ConfigError, SourceError, nearest
from atlas_etl.model import (
    ConnectionStatus,
    Examination,
    Finding,
    ParentBound,
    Protection,
    ReadRequest,
    Rule,
    Severity,
    Stream,
    StreamInfo,
)
from atlas_etl.protection.extract import ProtectedExtract
from atlas_etl.protection.keys import KeyHolder, fingerprint, is_keyed, keyed
from atlas_etl.protection.unseen import without_values


class ProtectedConnector:
    """A connector (contracts.Connector) with the rules of each stream that is opened."""

    def __init__(self, unprotected: Connector, keys: KeyHolder) -> None:
        self._unprotected = unprotected
        self._keys = keys

    def test(self) -> ConnectionStatus:
        return self._unprotected.test()

    def examine(self, examination: Examination) -> Iterator[Finding]:
        if isinstance(self._unprotected, ExaminedSource):
            return self._unprotected.examine(examination)
        message = "nothing but its connection can be looked at: its protocol has no such checks"
        return iter([Finding("server", "source", Severity.NOTE, message)])

    def discover(self) -> Sequence[StreamInfo]:
        return self._unprotected.discover()

    def describe(self, stream: Stream) -> StreamInfo:
        return self._unprotected.describe(stream)

    @contextmanager
    def open(self, request: ReadRequest) -> Iterator[Extract]:
        """As the contract says.

        Raises ConfigError where a rule would take the key, or rules changed since the checkpoint
        (`rules_changed`), and SourceError (`column_not_found`) for a rule without its column.
        """
        stream = request.stream
        rules = dict(stream.protect)
        self._refuse_changed(request, rules)
        if not rules:
            with self._unprotected.open(request) as extract:
                yield extract
            return
        dropped = {name for name, rule in rules.items() if rule.how is Protection.DROP}
        with ExitStack() as opened:
            # What the block itself raises is of rows that are protected, and stays as it is.
            with without_values(rules), self._telling_keys(stream):
                asked = replace(_undropped(request, rules, dropped), keyed=self._keyed)
                extract = opened.enter_context(self._unprotected.open(asked))
            key = [name for name in extract.primary_key if name in rules and not rules[name].tells_apart]
            if key:
                raise _hidden_key(stream, key[0], rules[key[0]])
            there = extract.schema.names
            missing = [name for name in rules if name not in there and name not in dropped]
            if there and missing:
                raise SourceError(
                    f"`protect` names the column {missing[0]!r}, which is not in what is read",
                    hint=nearest(missing[0], there) or f"its columns are {', '.join(there[:12])}",
                    code="column_not_found",
                    stream=stream.name,
                    column=missing[0],
                )
            kept = {name: rule for name, rule in rules.items() if name in there}
            yield ProtectedExtract(extract, kept, self._keys, partial(self._told, rules))

    def protection(self, stream: Stream) -> str:
        return self._told(dict(stream.protect), None)

    def refuse_changed(self, stream: Stream, protection: str) -> None:
        """As the contract says. What a checkpoint says may count the key also where no rule needs it."""
        rules = dict(stream.protect)
        forms = {fingerprint(rules, keys) for keys in (None, self._keys.found() if rules else None)}
        if protection not in forms:
            raise _changed(stream)

    def close(self) -> None:
        self._unprotected.close()

    @contextmanager
    def _telling_keys(self, stream: Stream) -> Iterator[None]:
        """A key column that is missing because a rule drops it is told as that."""
        try:
            yield
        except SourceError as failure:
            rule = stream.protect.get(failure.column or "")
            if failure.code != "column_not_found" or rule is None or rule.how is not Protection.DROP:
                raise
            column = str(failure.column)
            if column in self._unprotected.describe(stream).primary_key:
                raise _hidden_key(stream, column, rule) from None
            raise

    def _keyed(self, digest: str) -> str:
        return keyed(self._keys.made(), digest)

    def _told(self, rules: Mapping[str, Rule], parents: Sequence[ParentBound] | None) -> str:
        return fingerprint(rules, self._keys.made() if _needs_key(rules, parents) else None)

    def _refuse_changed(self, request: ReadRequest, rules: Mapping[str, Rule]) -> None:
        if request.since is None:
            return
        needs_key = _needs_key(rules, request.parents)
        if request.protection != fingerprint(rules, self._keys.found() if needs_key else None):
            raise _changed(request.stream)


def _changed(stream: Stream) -> ConfigError:
    return ConfigError(
        "the rules of `protect`, or their key, are others than those that the rows which are there "
        "were loaded under",
        hint="run with --full-refresh to load every row under the rules as they are now, "
        "or take the change back",
        code="rules_changed",
        stream=stream.name,
    )


def _needs_key(rules: Mapping[str, Rule], parents: Sequence[ParentBound] | None) -> bool:
    """Whether another key would make rows, or digests in a checkpoint, that do not meet those there are."""
    return any(rule.tells_apart for rule in rules.values()) or any(
        is_keyed(parent.key) for parent in parents or ()
    )


def _undropped(request: ReadRequest, rules: Mapping[str, Rule], dropped: set[str]) -> ReadRequest:
    """The request of what is to be read: without columns that are dropped, in the source's own types."""
    stream = request.stream
    left = tuple(name for name in stream.columns if name not in dropped)
    out = () if stream.columns else (*stream.exclude, *(name for name in rules if name in dropped))
    known = request.known
    if known is not None:
        # Columns that the table has, or whose rule its rows were loaded under, may have no value today; a
        # type that is not `settled` says nothing of theirs. A new rule has to find its column.
        is_settled = request.since is not None or stream.cursor is None
        there = [
            name for name in rules if name in (dropped if is_settled else ()) or name in known.schema.names
        ]
        own = [field for field in known.schema if field.name not in rules]
        schema = pa.schema([*own, *(pa.field(name, pa.string()) for name in there)])
        known = dataclasses.replace(known, schema=schema, settled=known.settled - rules.keys())
    return replace(request, stream=replace(stream, columns=left, exclude=out), known=known)


def _hidden_key(stream: Stream, column: str, rule: Rule) -> ConfigError:
    return ConfigError(
        f"`protect` has the rule {rule.how} for {column!r}, a column of the primary key: rows could not be "
        "told apart",
        hint="hash and tokenize leave keys distinct; or name another `primary_key`",
        code="protected_key",
        stream=stream.name,
        column=column,
    )
