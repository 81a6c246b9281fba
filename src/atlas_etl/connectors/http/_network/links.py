"""Where requests, links and redirects lead: to one address, which all read in the same way, or nowhere."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from atlas_etl.connectors.http._messages import origin, without_user
from atlas_etl.connectors.http._network.failures import no_url, refused


def check_address(url: str) -> None:
    """Raises SourceError (`invalid_url`) for what no host and port can be read from."""
    try:
        origin(url)
    except ValueError:
        raise no_url(url) from None


def target(base: str, link: str) -> str:
    """The URL that a link of the answer from `base` leads to, without a user.

    Raises SourceError (`refused_redirect`) for what is no address of the web, and for one of two hosts: one
    for whoever checks it, and another for the client that goes there (http://a\\.b/).
    """
    try:
        url = urljoin(base, link)
        parts, taken = urlsplit(url), parse_url(url)
        host, port = parts.hostname or "", parts.port
    except (ValueError, LocationParseError):
        raise refused(base, "what follows it is no URL") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise refused(url, "it is no address of the web")
    # The client writes a name that is not ASCII in its own way: only what ends a host can be compared.
    is_same = (taken.host or "").strip("[]").lower() == host if host.isascii() else "\\" not in parts.netloc
    if not is_same or taken.port != port:
        raise refused(url, "its host can be read in two ways")
    return without_user(url)
