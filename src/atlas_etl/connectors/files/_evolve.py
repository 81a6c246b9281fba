"""What a table's schema is after a plan's changes."""

from __future__ import annotations

import pyarrow as pa

from atlas_etl.connectors.files._manifest import Manifest
from atlas_etl.errors import DestinationError
from atlas_etl.model import AddColumn, CreateTable, DropTable, LoadPlan, WidenColumn


def evolved(manifest: Manifest | None, plan: LoadPlan) -> pa.Schema:
    """The schema after the plan's changes. Raises DestinationError where the table is not as planned."""
    schema = manifest.schema if manifest else None
    for change in plan.changes:
        match change:
            case DropTable():
                schema = None
            case CreateTable() if schema is None:
                schema = pa.schema([field.with_nullable(True) for field in plan.schema])
            case AddColumn(field) if schema is not None:
                schema = schema.append(field.with_nullable(True))
            case WidenColumn(name, _, after) if schema is not None:
                schema = schema.set(schema.get_field_index(name), after.with_nullable(True))
            case _:
                raise _not_as_planned(plan)
    if schema is None or any(schema.get_field_index(name) < 0 for name in plan.schema.names):
        raise _not_as_planned(plan)
    return schema


def _not_as_planned(plan: LoadPlan) -> DestinationError:
    return DestinationError(
        f"the table {plan.table} changed after the load was planned",
        hint="sync again",
        code="table_changed",
        stream=plan.stream,
        retryable=True,
    )
