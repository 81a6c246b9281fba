"""How a definition describes a SOAP service."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, model_validator

from atlas_etl.connectors.http._settings.auth import RecordsPath, Url, check_token_url
from atlas_etl.connectors.http._settings.connection import ApiConnection, Offered, parents_lead_to_an_end
from atlas_etl.connectors.http._settings.incremental import Since, check_windows

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


class Security(BaseModel):
    """WS-Security: who asks, in each message to the service."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    username: str = Field(min_length=1)
    password: SecretStr
    digest: bool = Field(default=False, description="whether the password is sent as a digest, not as text")

    @model_validator(mode="after")
    def _fits_into_a_message(self) -> Security:
        if _NO_XML.search(self.username):
            raise ValueError("the username has a character that no XML can hold")
        if not self.digest and _NO_XML.search(self.password.get_secret_value()):
            raise ValueError("the password has a character that no XML can hold: set `digest: true`")
        return self


class SinceArgument(Since):
    """How an operation is asked for what is new since the checkpoint; without it, that is chosen here."""

    argument: str | None = Field(default=None, description="its path among the arguments, e.g. filter.from")
    end_argument: str | None = Field(default=None, description="the path of the end that is sent with it")

    @model_validator(mode="after")
    def _is_complete(self) -> SinceArgument:
        check_windows(self, self.argument, self.end_argument, names="argument and end_argument")
        return self

    @property
    def is_asked(self) -> bool:
        return self.argument is not None


class Call(Offered):
    """An operation and where its result has records."""

    operation: str = Field(min_length=1, description="its name in the WSDL")
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="by name; `{name}` is a value of the parent's record"
    )
    records: RecordsPath | None = Field(
        default=None, description="where they are in the result; default: found out"
    )
    incremental: SinceArgument = SinceArgument()


class SoapConnection(ApiConnection):
    """A SOAP service."""

    wsdl: Url = Field(description="where the service describes itself")
    endpoint: Url | None = Field(
        default=None,
        description="where messages are sent; default: as the WSDL says, if it is of the WSDL's own origin",
    )
    security: Security | None = Field(default=None, description="WS-Security; or else `auth`")
    service: str | None = Field(default=None, description="its name, where the WSDL has several")
    port: str | None = Field(default=None, description="its name, where the service has several")
    resources: dict[str, Call] = Field(
        default_factory=dict, description="what is asked for, by the names that streams have"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> SoapConnection:
        check_token_url(self.auth, self.endpoint or self.wsdl)
        parents_lead_to_an_end(self.resources)
        return self
