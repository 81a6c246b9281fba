"""Who asks: the settings under `auth` of an HTTP API, one scheme at a time."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, SecretStr, model_validator

from atlas_etl.config.fields import Duration
from atlas_etl.connectors.http._documents.paths import parse_path

MODEL = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _path(text: str) -> str:
    parse_path(text)
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("should be a URL such as https://api.example.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("should hold no credentials: give them under `auth`")
    return text


RecordsPath = Annotated[str, AfterValidator(_path)]
Url = Annotated[str, AfterValidator(_url)]


KeyAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # those of RFC 7518 and RFC 8037 that have a private key
HmacAlgorithm = Literal["sha1", "sha256", "sha384", "sha512"]
Algorithm = KeyAlgorithm | HmacAlgorithm
_ALGORITHMS: Mapping[str, Sequence[str]] = {"jwt": get_args(KeyAlgorithm), "hmac": get_args(HmacAlgorithm)}
_SIGNED = ("timestamp", "method", "host", "path", "query", "body", "body_sha256", "key")
_SENT = ("signature", "key", "timestamp")


class Auth(BaseModel):
    """Who asks. Credentials go to the connection's own origin, and to `token_url`, and nowhere else."""

    model_config = MODEL

    type: Literal[
        "none", "bearer", "api_key", "basic", "digest", "oauth2", "session", "jwt", "hmac", "aws_sigv4"
    ] = "none"
    token: SecretStr | None = Field(default=None, description="bearer: the token")
    api_key: SecretStr | None = Field(default=None, description="api_key, hmac: the key")
    header: str | None = Field(
        default=None,
        description="api_key, hmac: the key's header, default X-API-Key; session: the token's, default "
        "Authorization",
    )
    parameter: str | None = Field(default=None, description="api_key: a query parameter instead of a header")
    username: str | None = Field(default=None, description="basic, digest, oauth2 with the password grant")
    password: SecretStr | None = None
    token_url: Url | None = Field(
        default=None,
        description="oauth2: where tokens are given out; jwt: where it is exchanged for one; left out: it is "
        "sent to the API itself",
    )
    grant: Literal["client_credentials", "refresh_token", "password"] = "client_credentials"
    client_id: str | None = None
    client_secret: SecretStr | None = None
    refresh_token: SecretStr | None = None
    scope: str | None = Field(default=None, description="oauth2, jwt with token_url: what the token is for")
    login_path: str | None = Field(default=None, description="session: where the login is posted to")
    login_body: dict[str, SecretStr] = Field(
        default_factory=dict, description="session: what is posted, as JSON"
    )
    login_token: RecordsPath | None = Field(
        default=None, description="session: where the answer holds the token; left out: its cookies are used"
    )
    private_key: SecretStr | None = Field(
        default=None, description="jwt: the key to sign with, as PEM, e.g. ${file:service.pem}"
    )
    private_key_password: SecretStr | None = Field(default=None, description="jwt: of an encrypted key")
    key_id: str | None = Field(default=None, description="jwt: what the API calls the key (`kid`)")
    algorithm: Algorithm | None = Field(
        default=None, description="how it is signed; default: jwt RS256, hmac sha256"
    )
    issuer: str | None = Field(default=None, description="jwt: the service account (`iss`)")
    subject: str | None = Field(default=None, description="jwt: on whose behalf it asks (`sub`)")
    audience: str | None = Field(
        default=None,
        description="jwt: for whom it is (`aud`), default token_url; oauth2: which API the token is for",
    )
    claims: dict[str, JsonValue] = Field(default_factory=dict, description="jwt: further claims")
    lifetime: Duration = Field(
        default=timedelta(minutes=5), ge=timedelta(minutes=1), description="jwt: from `iat` to `exp`"
    )

    secret: SecretStr | None = Field(default=None, description="hmac: what is signed with")
    secret_encoding: Literal["plain", "hex", "base64"] = Field(
        default="plain", description="hmac: how the secret is written"
    )
    template: str | None = Field(
        default=None,
        description="hmac: what is signed, of {timestamp}, {method}, {host}, {path}, {query}, {body}, "
        "{body_sha256} and {key}",
    )
    encoding: Literal["hex", "base64"] = Field(
        default="hex", description="hmac: how the signature is written"
    )
    signature_header: str = Field(default="X-Signature", description="hmac: where the signature is sent")
    signature_format: str = Field(
        default="{signature}", description="hmac: what that header is, of {signature}, {key} and {timestamp}"
    )
    timestamp_header: str | None = Field(
        default=None, description="hmac: default X-Timestamp, where the template has {timestamp}"
    )
    timestamp_format: Literal["epoch", "epoch_ms", "iso8601", "http_date"] = "epoch"
    access_key_id: str | None = Field(default=None, description="aws_sigv4")
    secret_access_key: SecretStr | None = Field(default=None, description="aws_sigv4")
    session_token: SecretStr | None = Field(default=None, description="aws_sigv4: of temporary credentials")
    region: str | None = Field(default=None, description="aws_sigv4: e.g. eu-central-1")
    service: str = Field(
        default="execute-api", description="aws_sigv4: what is asked, e.g. execute-api, es, s3"
    )

    @model_validator(mode="after")
    def _complete(self) -> Auth:
        needed = list(_NEEDED.get(self.type, ()))
        if self.type == "oauth2":
            needed += _GRANTS[self.grant]
        if self.type == "jwt" and self.token_url is not None:
            needed.append("issuer")
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"type {self.type} needs {' and '.join(missing)}")
        for claim, key in _CLAIMS.items():
            if claim in self.claims:
                raise ValueError(f"claims: {claim} is set by `{key}`")
        if self.algorithm is not None and self.algorithm not in _ALGORITHMS.get(self.type, (self.algorithm,)):
            raise ValueError(f"algorithm: for type {self.type} it is {_listed(_ALGORITHMS[self.type])}")
        _check_places("template", self.template or "", _SIGNED)
        _check_places("signature_format", self.signature_format, _SENT)
        if "{signature}" not in self.signature_format:
            raise ValueError("signature_format: {signature} is not in it")
        if self.secret is not None and not _is_written(self.secret.get_secret_value(), self.secret_encoding):
            raise ValueError(f"secret: is not {self.secret_encoding}, as secret_encoding says")
        return self


def check_token_url(auth: Auth, url: str) -> None:
    """Raises ValueError where credentials for an API that is asked by https would be sent without it."""
    if auth.token_url is None or urlsplit(url).scheme.lower() != "https":
        return
    parts = urlsplit(auth.token_url)
    if parts.scheme.lower() == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("auth.token_url: should begin with https, or others can read the credentials along")


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_places(key: str, template: str, known: Sequence[str]) -> None:
    for name in re.findall(r"\{(\w+)\}", template):
        if name not in known:
            raise ValueError(
                f"{key}: there is no {{{name}}}, only {_listed([f'{{{each}}}' for each in known])}"
            )


def _is_written(secret: str, encoding: str) -> bool:
    try:
        if encoding == "hex":
            bytes.fromhex(secret)
        elif encoding == "base64":
            base64.b64decode(secret, validate=True)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


_NEEDED: Mapping[str, tuple[str, ...]] = {
    "bearer": ("token",),
    "api_key": ("api_key",),
    "basic": ("username",),
    "digest": ("username", "password"),
    "oauth2": ("token_url",),
    "session": ("login_path", "login_body"),
    "jwt": ("private_key",),
    "hmac": ("secret", "template"),
    "aws_sigv4": ("access_key_id", "secret_access_key", "region"),
}
_CLAIMS: Mapping[str, str] = {
    "iss": "issuer", "sub": "subject", "aud": "audience", "iat": "lifetime", "exp": "lifetime",
}  # fmt: skip
_GRANTS: Mapping[str, tuple[str, ...]] = {
    "client_credentials": ("client_id", "client_secret"),
    "refresh_token": ("refresh_token",),
    "password": ("username", "password"),
}
