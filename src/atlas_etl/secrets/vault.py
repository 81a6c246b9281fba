"""`${vault:MOUNT/PATH#FIELD}`: HashiCorp Vault's key-value store, version 2, by the package `hvac`.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas_etl.secrets.packages import imported
from atlas_etl.secrets.vendors import SECONDS, failed, missing, not_written_so, parts_of, refused, value_of

_KIND, _EXAMPLE = "vault", "secret/shop/database#password"
_NAME = "Vault"


def vault_secret(written: str, environ: Mapping[str, str]) -> str:
    """The newest version's field, from VAULT_ADDR with VAULT_TOKEN (or ~/.vault-token) and VAULT_NAMESPACE.

    Raises ConfigError, MissingDriverError.
    """
    place, field = parts_of(written, _KIND, _EXAMPLE)
    mount, _, path = place.partition("/")
    if not path or not field:
        raise not_written_so(_KIND, _EXAMPLE)
    if not environ.get("VAULT_ADDR"):
        raise failed(_NAME, "VAULT_ADDR is not set", "set it, e.g. to https://vault.example.com:8200")
    hvac = imported("hvac", _KIND)
    errors = hvac.exceptions
    client = hvac.Client(
        url=environ["VAULT_ADDR"],
        token=environ.get("VAULT_TOKEN"),
        namespace=environ.get("VAULT_NAMESPACE"),
        verify=environ.get("VAULT_CACERT") or True,
        timeout=SECONDS,
    )
    try:
        answer = client.secrets.kv.v2.read_secret_version(
            path=path, mount_point=mount, raise_on_deleted_version=True
        )
        document = answer["data"]["data"]
    except errors.InvalidPath:
        hint = f"vault kv get -mount={mount} {path} shows it; only key-value stores of version 2 are read"
        raise missing(_NAME, place, hint) from None
    except (errors.Forbidden, errors.Unauthorized):
        hint = f"check VAULT_TOKEN, and that its policies may read {mount}/data/{path}"
        raise refused(_NAME, place, hint) from None
    except (errors.VaultError, OSError, KeyError, TypeError, ValueError) as failure:
        hint = "check VAULT_ADDR, and that Vault is unsealed"
        raise failed(_NAME, type(failure).__name__, hint) from None
    finally:
        client.adapter.close()
    return value_of(document, field, place)
