"""What files hold before they are read as rows: columns and types; and whether they changed since."""

from __future__ import annotations

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.files._failures import changed
from atlas_etl.connectors.files._format import Format, Survey
from atlas_etl.connectors.files._select import Selection
from atlas_etl.connectors.files._store import Store
from atlas_etl.connectors.known import UNKNOWN, Known
from atlas_etl.errors import SourceError


def surveyed(
    store: Store, form: Format, selection: Selection, rows: int | None, known: Known = UNKNOWN
) -> Survey:
    """Columns and types of the files; of a folder that Atlas wrote they are in its manifest."""
    manifest = selection.manifest
    if manifest is not None:
        live = [file.path.rpartition("/")[2] for file in selection.files]
        if manifest.format != form.protocol:
            raise SourceError(
                f"{selection.path} holds {manifest.format} files that Atlas wrote",
                hint=f"read it with the protocol {manifest.format}",
                code="other_format",
            )
        if live != [file.name for file in manifest.files]:
            raise changed(selection.path)
        return Survey(manifest.schema, manifest.rows)
    survey = form.survey(store, selection.files, rows, known)
    refuse_changes(store, selection)
    if not len(survey.schema):
        raise SourceError(
            f"{selection.path} has no columns to read",
            hint="the files are empty; a CSV file has at least its header",
            code="no_columns",
        )
    return replace(survey, schema=_with_source_types(survey.schema))


def refuse_changes(store: Store, selection: Selection) -> None:
    """Raise SourceError (`changed_while_reading`) where a file is not what the listing said."""
    for file in selection.files:
        if store.stat(file.path) != file:
            raise changed(file.path)


def _with_source_types(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field if values.source_type(field) else values.inferred(field) for field in schema])
