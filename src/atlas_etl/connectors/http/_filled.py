"""A request with names in it, each replaced by its value."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import quote

from atlas_etl.connectors.http._messages import Request, shown
from atlas_etl.connectors.http._templates import Values, filled_body, filled_text
from atlas_etl.errors import SourceError

_LEADS_ASTRAY = re.compile(r"(?<!:)/(?:\.\.?)?(?=[/?#]|$)")  # segments that are empty, . or ..


def filled(request: Request, values: Values) -> Request:
    """The request with `{name}` replaced in its path, parameters, headers and body.

    Raises SourceError (`value_in_path`) for a value that would make the path another one (RFC 3986, 5.2.4).
    """
    url = filled_text(request.url, values, written=_in_path)
    if len(_LEADS_ASTRAY.findall(url)) > len(_LEADS_ASTRAY.findall(request.url)):
        raise SourceError(
            f"a value that is empty, . or .. would make the path of {shown(request.url)} another one",
            hint="send it as one of `params`, or leave such records out",
            code="value_in_path",
        )
    return replace(
        request,
        url=url,
        params=tuple((name, filled_text(value, values)) for name, value in request.params),
        headers={name: filled_text(value, values) for name, value in request.headers.items()},
        body=filled_body(request.body, values),
    )


def _in_path(text: str) -> str:
    return quote(text, safe="")
