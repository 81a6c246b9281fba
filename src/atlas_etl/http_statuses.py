"""Statuses of HTTP answers that may be other ones when a request is sent again.

RFC 9110, 6585 and 8470; Cloudflare's, of a server behind it that cannot be reached or is too busy
(https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/); timeouts
of proxies. Other 5xx say that the request itself will never do.
"""

from __future__ import annotations

_OF_CLOUDFLARE = frozenset({520, 521, 522, 523, 524, 529})
_OF_PROXIES = frozenset({598, 599})
MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504}) | _OF_CLOUDFLARE | _OF_PROXIES
