"""Who asks: the settings under `auth` of an HTTP API, one scheme at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, SecretStr, model_validator

from atlas_etl.config.fields import Duration
from atlas_etl.connectors.http._records import parse_path

MODEL = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _path(text: str) -> str:
    parse_path(text)
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("should be a URL such as https://api.example.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("should hold no credentials: give them under `auth`")
    return text


RecordsPath = Annotated[str, AfterValidator(_path)]
Url = Annotated[str, AfterValidator(_url)]


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # those of RFC 7518 and RFC 8037 that have a private key


class Auth(BaseModel):
    """Who asks. Credentials go to the connection's own origin, and to `token_url`, and nowhere else."""

    model_config = MODEL

    type: Literal["none", "bearer", "api_key", "basic", "digest", "oauth2", "session", "jwt"] = "none"
    token: SecretStr | None = Field(default=None, description="bearer: the token")
    api_key: SecretStr | None = Field(default=None, description="api_key: the key")
    header: str | None = Field(
        default=None, description="api_key, session: the header; default X-API-Key, Authorization"
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
    algorithm: Algorithm | None = Field(default=None, description="jwt: how it is signed; default RS256")
    issuer: str | None = Field(default=None, description="jwt: the service account (`iss`)")
    subject: str | None = Field(default=None, description="jwt: on whose behalf it asks (`sub`)")
    audience: str | None = Field(default=None, description="jwt: for whom it is (`aud`); default token_url")
    claims: dict[str, JsonValue] = Field(default_factory=dict, description="jwt: further claims")
    lifetime: Duration = Field(
        default=timedelta(minutes=5), ge=timedelta(minutes=1), description="jwt: from `iat` to `exp`"
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
        return self


_NEEDED: Mapping[str, tuple[str, ...]] = {
    "bearer": ("token",),
    "api_key": ("api_key",),
    "basic": ("username",),
    "digest": ("username", "password"),
    "oauth2": ("token_url",),
    "session": ("login_path", "login_body"),
    "jwt": ("private_key",),
}
_CLAIMS: Mapping[str, str] = {
    "iss": "issuer", "sub": "subject", "aud": "audience", "iat": "lifetime", "exp": "lifetime",
}  # fmt: skip
_GRANTS: Mapping[str, tuple[str, ...]] = {
    "client_credentials": ("client_id", "client_secret"),
    "refresh_token": ("refresh_token",),
    "password": ("username", "password"),
}
