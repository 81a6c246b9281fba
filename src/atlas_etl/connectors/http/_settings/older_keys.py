"""The keys by which older definitions describe an API, in today's places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OLDER_AUTH = {"token": "bearer", "bearer_token": "bearer", "apikey": "api_key", "oauth": "oauth2"}
_OLDER_PAGINATION = {
    "page_number": "page", "page": "page", "offset_limit": "offset", "limit_offset": "offset",
    "link": "link_header", "next_link": "next_url", "url": "next_url",
}  # fmt: skip


def from_older_keys(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the older form in today's places.

    `auth_type`, `auth_token`, `api_key`, `username` and `password` belong to `auth`; of `options`,
    `pagination_type`, `page_size`, `cursor_key` and `next_key` belong to `pagination`, `data_key` is
    `records`, and `header_name` is the header of the API key, or the one that holds the next cursor. Raises
    ValueError for an option that there is none of.
    """
    found = dict(given)
    options = found.pop("options", None) or {}
    if not isinstance(options, Mapping):
        raise ValueError("options should be a mapping")
    options = dict(options)
    flat = {
        new: found.pop(old)
        for old, new in (
            ("auth_type", "type"), ("auth_token", "token"), ("api_key", "api_key"),
            ("username", "username"), ("password", "password"),
        )
        if found.get(old) is not None
    }  # fmt: skip
    if flat and "auth" in found:
        raise ValueError(f"`auth` and {', '.join(sorted(flat))} are both given; everything belongs in `auth`")
    header = options.pop("header_name", None)
    if flat:
        kind = str(flat.get("type", "")).lower()
        kind = _OLDER_AUTH.get(kind, kind) or next(
            (named for key, named in (("token", "bearer"), ("api_key", "api_key"), ("username", "basic"))
             if key in flat), "none",
        )  # fmt: skip
        flat["type"] = kind
        if kind == "api_key" and "api_key" not in flat and "token" in flat:
            flat["api_key"] = flat.pop("token")
        if kind == "api_key" and header is not None:
            flat["header"], header = header, None
        found["auth"] = flat
    pages = {
        new: options.pop(old)
        for old, new in (
            ("pagination_type", "type"), ("page_size", "page_size"), ("cursor_key", "cursor"),
            ("next_key", "next"),
        )
        if options.get(old) is not None
    }  # fmt: skip
    if header is not None:
        pages["header"] = header
    if pages:
        if "pagination" in found:
            raise ValueError("`pagination` is given twice: by itself and in `options`")
        kind = str(pages.get("type", "")).lower()
        guessed = "cursor" if {"cursor", "header"} & set(pages) else "next_url" if "next" in pages else "auto"
        pages["type"] = _OLDER_PAGINATION.get(kind, kind) or guessed
        found["pagination"] = pages
    if options.get("data_key") is not None:
        found.setdefault("records", options.pop("data_key"))
    for key in ("headers", "params", "nested", "timeout"):
        if key in options:
            found.setdefault(key, options.pop(key))
    if options:
        raise ValueError(f"there is no option {sorted(options)[0]!r}")
    return found
