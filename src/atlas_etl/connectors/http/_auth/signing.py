"""Signatures of requests, pure: one that is ready to be sent goes in, the headers that sign it come out."""

from __future__ import annotations

import base64
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from hashlib import sha256
from urllib.parse import urlsplit

from pydantic import SecretStr

from atlas_etl.connectors.http._network.failures import missing_extra
from atlas_etl.connectors.http._settings.auth import Auth

_PLACE = re.compile(rb"\{(\w+)\}")
_TIMES: Mapping[str, Callable[[float], str]] = {
    "epoch": lambda now: str(int(now)),
    "epoch_ms": lambda now: str(int(now * 1000)),
    "iso8601": lambda now: f"{datetime.fromtimestamp(int(now), UTC).replace(tzinfo=None).isoformat()}Z",
    "http_date": lambda now: formatdate(now, usegmt=True),
}
_KEYS: Mapping[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "hex": bytes.fromhex,
    "base64": base64.b64decode,
}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it goes over the wire."""

    method: str
    url: str  # with its query
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None


def signed(auth: Auth, request: Outgoing) -> Mapping[str, str]:
    """The headers that sign a request; none for an authentication that signs nothing.

    Raises MissingDriverError.
    """
    if auth.type == "hmac":
        return hmac_headers(auth, request, time.time())
    return _aws_headers(auth, request) if auth.type == "aws_sigv4" else {}


def hmac_headers(auth: Auth, request: Outgoing, now: float) -> dict[str, str]:
    """RFC 2104, of what the template says; `now` is an epoch second."""
    parts = urlsplit(request.url)
    timestamp, key = _TIMES[auth.timestamp_format](now), _revealed(auth.api_key)
    message = _filled(
        auth.template or "",
        {
            "timestamp": timestamp,
            "method": request.method,
            "host": parts.netloc,
            "path": parts.path or "/",
            "query": parts.query,
            "body": request.body,
            "body_sha256": sha256(request.body).hexdigest(),
            "key": key,
        },
    )
    secret = _KEYS[auth.secret_encoding](_revealed(auth.secret))
    digest = hmac.digest(secret, message, auth.algorithm or "sha256")
    signature = digest.hex() if auth.encoding == "hex" else base64.b64encode(digest).decode()
    shown = {"signature": signature, "key": key, "timestamp": timestamp}
    headers = {auth.signature_header: _filled(auth.signature_format, shown).decode()}
    told = auth.signature_format
    if key and (auth.header is not None or "{key}" not in told):
        headers[auth.header or "X-API-Key"] = key
    is_signed = "{timestamp}" in (auth.template or "")
    if auth.timestamp_header is not None or (is_signed and "{timestamp}" not in told):
        headers[auth.timestamp_header or "X-Timestamp"] = timestamp
    return headers


def _aws_headers(auth: Auth, request: Outgoing) -> dict[str, str]:
    """AWS Signature Version 4, by botocore."""
    try:
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import ReadOnlyCredentials
    except ImportError:
        raise missing_extra("auth of type aws_sigv4", "botocore", extra="aws") from None
    who = ReadOnlyCredentials(
        auth.access_key_id, _revealed(auth.secret_access_key), _revealed(auth.session_token) or None
    )
    named = {"Content-Type": request.content_type} if request.content_type is not None else {}
    unsigned = AWSRequest(request.method, request.url, headers=named, data=request.body)
    # Only S3 takes paths as they are, and wants the digest of the body in a header.
    signer = S3SigV4Auth if auth.service == "s3" else SigV4Auth
    signer(who, auth.service, auth.region).add_auth(unsigned)
    return {str(name): str(value) for name, value in unsigned.headers.items()}


def _filled(template: str, values: Mapping[str, str | bytes]) -> bytes:
    """Plain substitution: what is put in is not looked at again."""

    def value(name: re.Match[bytes]) -> bytes:
        found = values[name[1].decode()]
        return found if isinstance(found, bytes) else found.encode()

    return _PLACE.sub(value, template.encode())


def _revealed(value: SecretStr | None) -> str:
    return value.get_secret_value() if value is not None else ""
