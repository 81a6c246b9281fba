"""Where the records of a document seem to be, when no definition says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atlas_etl.connectors.http._documents.paths import EVERY, Path, written_path
from atlas_etl.connectors.http._documents.records import Document
from atlas_etl.errors import SourceError

# Where most APIs keep their records, the commonest first.
_USUAL = (
    "data", "results", "items", "records", "value", "values", "rows", "entries", "content", "list", "docs",
    "elements", "objects", "hits", "nodes",
)  # fmt: skip
# What else may be a list beside them, and around them.
_BESIDE = frozenset({"errors", "warnings", "links", "link", "included", "facets"})
ENVELOPES: Final = ("d", "data", "result", "results", "response", "payload", "hits")
_ERROR, _SUCCESS = "error", ("success", "ok")
OF_ERRORS: Final = frozenset(
    {_ERROR, *_SUCCESS, "errors", "error_description", "error_code", "message", "code", "status", "detail",
     "details", "documentation_url", "path", "timestamp", "request_id", "requestId", "trace_id"}
)  # fmt: skip
OR_RECORD: Final = "; where it is a record, set `records` to `$` on the resource"
_HAL, _HAL_LINKS = "_embedded", "_links"
_HAL_MOVES = ("next", "prev", "first", "last")
_NONE_AT = (("page", "totalElements"), ("totalElements",), ("total",), ("count",), ("totalItems",))
# FHIR: https://hl7.org/fhir/bundle.html
_KIND, _BUNDLE, _ENTRY = "resourceType", "Bundle", "entry"


def is_empty_list(document: Document) -> bool:
    """Whether it is a list of nothing that leaves its records out: HAL's, as Spring writes it, or FHIR's."""
    members = document.members()
    if _is_bundle(document):
        return _ENTRY not in members
    return _HAL_LINKS in members and _HAL not in members and any(document.find(at) == 0 for at in _NONE_AT)


def records_path(document: Document, where: str) -> Path:
    """Where the records seem to be: the document, or its only list, or the one with a usual name.

    In HAL (`_embedded`), OData's second version (`d.results`), Elasticsearch (`hits.hits`) and other
    envelopes it is the list in that; in a Bundle of FHIR the resource in each entry. Raises SourceError
    (`records_not_found`) where several lists could be meant, and `answered_errors` where there are errors
    and nothing else.
    """
    if _is_bundle(document):
        return (_ENTRY, EVERY, "resource")
    lists = document.lists()
    if candidates := [name for name in lists if name not in _BESIDE]:
        return (_likeliest(candidates, where),)
    if (enclosed := _enclosed(document, where)) is not None:
        return enclosed
    if "errors" in lists and document.holds_several(("errors",)):
        raise answered_errors(where)
    if _is_error_alone(document):
        raise answered_errors(where, OR_RECORD)
    return tuple(lists) if len(lists) == len(document.members()) == 1 else ()


def says_failure(document: Document) -> bool:
    """Whether it says of itself that what was asked for failed, as some APIs do with a status 200."""
    return any(document.find((name,)) is False for name in _SUCCESS)


def answered_errors(where: str, unless: str = "") -> SourceError:
    """`unless`: what to do where it is none."""
    return SourceError(
        f"{where} answered with an error and no records",
        hint=f"check what the resource asks for, and the rights of these credentials{unless}",
        code="answered_errors",
    )


def _is_error_alone(document: Document) -> bool:
    """Whether it has nothing but an error, and what belongs to one."""
    has_error = document.holds_several((_ERROR,)) or document.find((_ERROR,)) not in (None, False, "", 0)
    return has_error and OF_ERRORS.issuperset(document.members())


def _is_bundle(document: Document) -> bool:
    return document.find((_KIND,)) == _BUNDLE


def _enclosed(document: Document, where: str) -> Path | None:
    """The list in an envelope; None where there is none, or it belongs to a single record."""
    if document.members((_HAL,)):
        inside = document.lists((_HAL,))
        is_list = "id" not in document.members() or any(
            move in document.members((_HAL_LINKS,)) for move in _HAL_MOVES
        )
        return (_HAL, _likeliest(inside, where, above=_HAL)) if inside and is_list else None
    for name in ENVELOPES:
        envelope = document.members((name,))
        inside = [each for each in document.lists((name,)) if each not in _BESIDE]
        usual = [each for each in _USUAL if each in inside]
        if "id" not in envelope and (usual or (inside and len(envelope) == 1)):
            return (name, (usual or inside)[0])
    return None


def _likeliest(lists: Sequence[str], where: str, *, above: str = "") -> str:
    """The only list, or the one with a usual name. Raises SourceError (`records_not_found`)."""
    usual = [name for name in _USUAL if name in lists]
    if len(lists) == 1 or usual:
        return lists[0] if len(lists) == 1 else usual[0]
    places = ", ".join(written_path((*((above,) if above else ()), name)) for name in lists[:12])
    raise SourceError(
        f"{where} has several lists, and nothing says which of them the records are",
        hint=f"set `records` to one of {places}",
        code="records_not_found",
    )
