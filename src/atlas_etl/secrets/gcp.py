"""`${gcp-sm:PROJECT/SECRET}`, `...#FIELD`: Google Cloud's Secret Manager, by its own client.

https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
"""

from __future__ import annotations

from atlas_etl.errors import ConfigError
from atlas_etl.secrets.packages import imported
from atlas_etl.secrets.vendors import SECONDS, failed, member, missing, not_written_so, parts_of, refused

_KIND, _EXAMPLE = "gcp-sm", "my-project/shop-database#password"
_NAME = "Google Secret Manager"


def gcp_secret(written: str) -> str:
    """The latest version, or the one that a full name says. Credentials: Google's application default ones.

    Raises ConfigError, MissingDriverError.
    """
    place, field = parts_of(written, _KIND, _EXAMPLE)
    manager = imported("google.cloud.secretmanager_v1", _KIND)
    errors, login = imported("google.api_core.exceptions", _KIND), imported("google.auth.exceptions", _KIND)
    try:
        with manager.SecretManagerServiceClient(transport="rest") as client:
            answer = client.access_secret_version(name=_version(place), timeout=SECONDS)
    except errors.NotFound:
        raise missing(_NAME, place, "check the project, the name, and that it has a version") from None
    except (errors.Forbidden, errors.Unauthorized):
        hint = "grant roles/secretmanager.secretAccessor to whoever runs this"
        raise refused(_NAME, place, hint) from None
    except (errors.GoogleAPIError, login.GoogleAuthError, OSError) as failure:
        hint = "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
        raise failed(_NAME, type(failure).__name__, hint) from None
    try:
        text: str = answer.payload.data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"the secret {place!r} is no UTF-8 text", code="missing_secret") from None
    return member(text, field, place)


def _version(place: str) -> str:
    parts = place.split("/")
    if len(parts) == 2 and all(parts):
        return f"projects/{parts[0]}/secrets/{parts[1]}/versions/latest"
    if parts[::2] == ["projects", "secrets"] and len(parts) == 4:
        return f"{place}/versions/latest"
    if parts[::2] == ["projects", "secrets", "versions"] and len(parts) == 6:
        return place
    raise not_written_so(_KIND, _EXAMPLE)
