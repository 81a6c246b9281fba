"""A page as it came."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from atlas_etl.connectors.http._documents.paths import Path, written_path
from atlas_etl.connectors.http._documents.records import Document, Scalar
from atlas_etl.connectors.http._messages import Response
from atlas_etl.errors import SourceError


class Page(Struct, frozen=True):
    """What came back for one request."""

    response: Response
    document: Document | None  # None: the format is not JSON
    records: list[msgspec.Raw]

    @property
    def is_single(self) -> bool:
        """Whether it is one record, and no list of them."""
        return self.document is not None and self.document.is_one(self.records)

    @property
    def lacks_list(self) -> bool:
        """Whether it is no list at all, and not an empty one."""
        if self.document is None:
            return not self.response.content
        return not self.records and self.document.has_null_for_records

    def find(self, path: Path) -> Scalar:
        return self.document.find(path) if self.document is not None else None

    def position(self, path: Path, *, key: str) -> Scalar:
        """Where the next page begins, as `key` of the pagination says; None: there is none.

        Raises SourceError (`page_position`) for what cannot be sent: the pages behind it would be missing.
        """
        found = self.find(path)
        if found is None and self.document is not None and self.document.holds_several(path):
            raise SourceError(
                f"{written_path(path)!r} of an answer is an object or a list, and nothing to go on from",
                hint=f"set `{key}` of `pagination` to the member in it that says where the next page begins",
                code="page_position",
            )
        return found
