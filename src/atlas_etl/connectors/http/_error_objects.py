"""Errors in answers with a status of success, told from records by what the records of a stream are.

An object of a message and a code may be a record, as one of a list or of a resource that is one. It is none
where other answers, or the table, have records with more than errors have, or where a resource has pages.
"""

from __future__ import annotations

from collections.abc import Iterable

from atlas_etl.connectors.http._documents.records import SEPARATOR, Document
from atlas_etl.connectors.http._documents.where_records import OF_ERRORS, OR_RECORD, answered_errors
from atlas_etl.connectors.http._pagination.page import Page
from atlas_etl.errors import SourceError
from atlas_etl.model import KnownColumns

_MESSAGES = frozenset(
    {"message", "msg", "error", "errors", "error_description", "error_message", "errorMessage", "errmsg",
     "detail", "description", "title", "reason"}
)  # fmt: skip
# With those of RFC 9457, section 3.1.
_MEMBERS = (
    OF_ERRORS
    | _MESSAGES
    | {"errcode", "errorCode", "statusCode", "status_code", "type", "instance", "error_type", "fault"}
)
_OURS = "_atlas_"


class ErrorObjects:
    """What was seen of one stream. May be used by several threads."""

    def __init__(self, *, has_records: bool = False) -> None:
        """`has_records`: whether its records are known to have more than errors have."""
        self._has_records = has_records
        self._found: SourceError | None = None

    def see(self, page: Page, where: str, *, is_paged: bool) -> None:
        """Raises SourceError (`answered_errors`) once there are both records and an error in their place."""
        if page.is_single and page.document is not None and _may_be_error(page.document):
            self._found = answered_errors(where, OR_RECORD)
            if is_paged:
                raise self._found
        elif page.document is not None and page.records and not self._has_records:
            self._has_records = not _MEMBERS.issuperset(Document(bytes(page.records[0]), where).members())
        if self._found is not None and self._has_records:
            raise self._found


def known_records(known: KnownColumns | None, *, added: Iterable[str]) -> bool:
    """Whether a table has columns that no error has, beside those that were `added` to its records."""
    if known is None:
        return False
    others = {known.stored_name(name) for name in (*_MEMBERS, *added)}
    names = (name for name in known.schema.names if not name.startswith(_OURS))
    return any(others.isdisjoint((name, name.partition(SEPARATOR)[0])) for name in names)


def _may_be_error(document: Document) -> bool:
    members = document.members()
    says = any(
        document.find((name,)) or document.holds_several((name,)) for name in _MESSAGES & members.keys()
    )
    return says and _MEMBERS.issuperset(members)
