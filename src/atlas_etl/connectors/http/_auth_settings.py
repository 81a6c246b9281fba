"""Who asks: the settings under `auth` of an HTTP API, one scheme at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

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


class Auth(BaseModel):
    """Who asks. Credentials go to the connection's own origin, and to `token_url`, and nowhere else."""

    model_config = MODEL

    type: Literal["none", "bearer", "api_key", "basic", "digest", "oauth2", "session"] = "none"
    token: SecretStr | None = Field(default=None, description="bearer: the token")
    api_key: SecretStr | None = Field(default=None, description="api_key: the key")
    header: str | None = Field(
        default=None, description="api_key, session: the header; default X-API-Key, Authorization"
    )
    parameter: str | None = Field(default=None, description="api_key: a query parameter instead of a header")
    username: str | None = Field(default=None, description="basic, digest, oauth2 with the password grant")
    password: SecretStr | None = None
    token_url: Url | None = Field(default=None, description="oauth2: where tokens are given out")
    grant: Literal["client_credentials", "refresh_token", "password"] = "client_credentials"
    client_id: str | None = None
    client_secret: SecretStr | None = None
    refresh_token: SecretStr | None = None
    scope: str | None = None
    login_path: str | None = Field(default=None, description="session: where the login is posted to")
    login_body: dict[str, SecretStr] = Field(
        default_factory=dict, description="session: what is posted, as JSON"
    )
    login_token: RecordsPath | None = Field(
        default=None, description="session: where the answer holds the token; left out: its cookies are used"
    )

    @model_validator(mode="after")
    def _complete(self) -> Auth:
        needed = list(_NEEDED.get(self.type, ()))
        if self.type == "oauth2":
            needed += _GRANTS[self.grant]
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"type {self.type} needs {' and '.join(missing)}")
        return self


_NEEDED: Mapping[str, tuple[str, ...]] = {
    "bearer": ("token",),
    "api_key": ("api_key",),
    "basic": ("username",),
    "digest": ("username", "password"),
    "oauth2": ("token_url",),
    "session": ("login_path", "login_body"),
}
_GRANTS: Mapping[str, tuple[str, ...]] = {
    "client_credentials": ("client_id", "client_secret"),
    "refresh_token": ("refresh_token",),
    "password": ("username", "password"),
}
