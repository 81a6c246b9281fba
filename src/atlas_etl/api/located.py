"""Errors that say which connector, and which of its streams, they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atlas_etl.errors import AtlasError


@contextmanager
def located(connector: str, stream: str | None = None) -> Iterator[None]:
    """Tells an error that leaves the block where it happened, if it does not know."""
    try:
        yield
    except AtlasError as failure:
        failure.located(connector=connector, stream=stream)
        raise
