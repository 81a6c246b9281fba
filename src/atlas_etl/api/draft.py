"""A connector that is not written yet: tried, looked into and previewed before there is a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.cursor_advice import Sample
from atlas_etl.api.located import located
from atlas_etl.api.prepared import PreparedConnector, prepare_loaded
from atlas_etl.api.secrets import with_secrets
from atlas_etl.config.definitions import drafted_definition
from atlas_etl.config.yaml_source import Value
from atlas_etl.connectors.preview import preview
from atlas_etl.contracts import Connector
from atlas_etl.model import ConnectionStatus, ReadRequest, Stream, StreamInfo
from atlas_etl.protection.keys import no_keys


@dataclass(frozen=True, slots=True)
class Draft:
    """A definition's values, and by their names the secrets that it refers to and nobody stores yet.

    Where the source replaces a secret as it is used (a refresh token), the new one takes its place here.
    """

    name: str
    values: Mapping[str, Value]
    secrets: MutableMapping[str, str] = field(default_factory=dict, repr=False)


class Offer(Struct, frozen=True):
    """What a draft can read: `own` streams, which its protocol reads where none is named, or tables."""

    own: tuple[Stream, ...]
    tables: tuple[StreamInfo, ...]


class DraftedConnectors:
    """Drafts of one project. Nothing is written but secrets of others that a source replaces."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._replaced: dict[str, str] = {}

    def keep_replaced(self) -> list[str]:
        """Store the secrets of drafts that their sources replaced: the typed ones are spent. Their names.

        For a draft that comes to nothing. Raises ConfigError, StateError.
        """
        self._atlas.keep(self._replaced)
        return sorted(self._replaced)

    def test(self, draft: Draft) -> ConnectionStatus:
        """Reach the system and log in. Raises AtlasError."""
        with self._opened(draft) as (_, connector):
            return connector.test()

    def offer(self, draft: Draft) -> Offer:
        """What can be read. Raises AtlasError."""
        with self._opened(draft) as (prepared, connector):
            own = prepared.adapter.default_streams(prepared.config)
            return Offer(own, () if own else tuple(connector.discover()))

    def samples(
        self, draft: Draft, table: StreamInfo, columns: Sequence[str], rows: int
    ) -> dict[str, Sample]:
        """What a table's first rows say of some of its columns. Raises AtlasError."""
        read = tuple(dict.fromkeys((*table.primary_key, *columns)))
        stream = Stream(table.name, table=table.name, columns=read)
        request = ReadRequest(stream, limit=rows)
        with self._opened(draft) as (_, connector), connector.open(request) as extract:
            found = pa.Table.from_batches(extract.batches(), schema=extract.schema)
        return {
            name: Sample(found.num_rows, found.column(name).null_count, _distinct(found.column(name)))
            for name in columns
            if name in found.column_names
        }

    def preview(self, draft: Draft, limit: int) -> tuple[str, list[str], list[list[object]]]:
        """The first rows of the first stream: its name, columns and rows. Raises AtlasError."""
        with self._opened(draft) as (prepared, connector):
            stream = prepared.chosen(())[0]
            with located(draft.name, stream.name):
                return stream.name, *preview(connector, replace(stream, cursor=None), limit)

    @contextmanager
    def _opened(self, draft: Draft) -> Iterator[tuple[PreparedConnector, Connector]]:
        def write(values: Mapping[str, str]) -> None:
            ours = {name: value for name, value in values.items() if name in draft.secrets}
            draft.secrets.update(ours)
            self._replaced.update(ours)
            self._atlas.keep({name: value for name, value in values.items() if name not in ours})

        project = with_secrets(self._atlas.project, draft.secrets)
        with located(draft.name):
            loaded = drafted_definition(project.folder, draft.name, draft.values, project.context.environ)
            prepared = prepare_loaded(project, loaded, write, self._atlas.exchange, no_keys())
            with closing(prepared.open()) as connector:
                yield prepared, connector


def _distinct(column: pa.ChunkedArray) -> int:
    try:
        return int(pc.count_distinct(column, mode="only_valid").as_py())
    except pa.ArrowNotImplementedError:
        return len(set(column.drop_null().to_pylist()))
