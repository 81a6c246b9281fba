"""Signed JSON Web Tokens, by which a service account says who it is (RFC 7519 and RFC 7523)."""

from __future__ import annotations

import uuid

from atlas_etl.connectors.http._network.failures import missing_extra
from atlas_etl.connectors.http._settings.auth import Auth
from atlas_etl.errors import ConfigError

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523, section 2.1
CLOCK_SKEW = 30  # seconds by which it is dated back, for servers whose clock is behind


def signed_jwt(auth: Auth, now: float) -> str:
    """A token of its own (`jti`), good from `now`, an epoch second, for the lifetime less CLOCK_SKEW.

    Raises ConfigError (`private_key`) for a key that cannot be read or does not fit the algorithm, and
    MissingDriverError.
    """
    try:
        import jwt
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise missing_extra("auth of type jwt", "pyjwt", extra="jwt") from None
    text = auth.private_key.get_secret_value() if auth.private_key is not None else ""
    if "\n" not in text.strip():
        text = text.replace("\\n", "\n")  # environment variables often have it on one line
    password = auth.private_key_password
    try:
        key = load_pem_private_key(
            text.encode(), password.get_secret_value().encode() if password is not None else None
        )
    except TypeError:
        why = "is encrypted: set private_key_password" if password is None else "is not encrypted"
        raise _unfit(why) from None
    except (ValueError, UnsupportedAlgorithm):
        why = "cannot be read" if password is None else "cannot be read with this private_key_password"
        raise _unfit(why) from None
    issued = int(now) - CLOCK_SKEW
    claims = {
        "iss": auth.issuer,
        "sub": auth.subject,
        "aud": auth.audience or auth.token_url,
        "iat": issued,
        "exp": issued + int(auth.lifetime.total_seconds()),
        "jti": str(uuid.uuid4()),
        "scope": auth.scope,  # where Google and DocuSign look for it; RFC 7521, section 4.1, sends it beside
    }
    given = {name: value for name, value in claims.items() if value is not None}
    algorithm = auth.algorithm or "RS256"
    headers = {"kid": auth.key_id} if auth.key_id is not None else None
    try:
        return jwt.encode({**given, **auth.claims}, key, algorithm, headers)  # type: ignore[arg-type]  # it refuses others
    except (jwt.PyJWTError, TypeError, ValueError, AttributeError):
        raise _unfit(f"is no key for {algorithm}") from None


def _unfit(why: str) -> ConfigError:
    return ConfigError(
        f"auth: private_key {why}",
        hint="give the whole PEM text, from -----BEGIN to -----END, e.g. private_key: ${file:service.pem}",
        code="private_key",
    )
