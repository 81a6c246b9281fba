"""Statuses of HTTP answers that may be other ones when a request is sent again (RFC 9110, 6585 and 8470)."""

from __future__ import annotations

MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
