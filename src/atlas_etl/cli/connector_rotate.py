"""`atlas connector rotate`: a new credential, tried before it takes the old one's place."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas_etl.cli.asking import ask_secret
from atlas_etl.cli.completion import Name
from atlas_etl.cli.connector_define import change
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.references import holds_reference
from atlas_etl.config.secret_names import reference_to, secret_name
from atlas_etl.config.secret_references import stored_name
from atlas_etl.config.stored_secrets import Credential
from atlas_etl.config.yaml_source import Value
from atlas_etl.errors import ConfigError, UsageError, nearest


def rotate(
    context: typer.Context,
    name: Name,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="KEY", help="Which, e.g. auth.token; may be repeated."),
    ] = None,
) -> None:
    """Give a connector a new credential, once it works: typed unseen, or from stdin.

    Example: atlas connector rotate shop
    """
    session: Session = context.obj
    chosen = _chosen(name, open_atlas(session).credentials(name), fields or [])
    changes: dict[KeyPath, Value] = {}
    secrets: dict[str, str] = {}
    for credential in chosen:
        stored = stored_name(credential.written)
        if stored is None:
            stored = secret_name(name, credential.path)
            changes["connection", *credential.path] = reference_to(stored)
        secrets[stored] = ask_secret(f"new {dotted(credential.path)}")
    change(context, name, changes, secrets, reach=True)
    if session.output.as_json:
        session.output.document({"connector": name, "result": "rotated", "secrets": sorted(secrets)})
        return
    session.output.line(f"{name} logs in with the new {' and '.join(dotted(each.path) for each in chosen)}")
    session.output.line("next: take the old one back at the source")


def _chosen(name: str, found: list[Credential], fields: list[str]) -> list[Credential]:
    known = {dotted(credential.path): credential for credential in found}
    if not fields:
        if len(known) != 1:
            raise UsageError(
                f"connector {name!r} has {len(known) or 'no'} secrets"
                + (f": {', '.join(known)}" if known else ""),
                hint="name one with --field"
                if known
                else f"atlas connector update {name} --set password=- sets one",
            )
        fields = [*known]
    for field in fields:
        if field not in known:
            raise UsageError(
                f"connector {name!r} has no secret {field!r}",
                hint=nearest(field, known) or f"it has {', '.join(known) or 'none'}",
            )
        _check_is_ours(name, field, known[field])
    return [known[field] for field in dict.fromkeys(fields)]


def _check_is_ours(name: str, field: str, credential: Credential) -> None:
    if credential.variable is not None:
        raise ConfigError(
            f"{field} comes from the variable {credential.variable}",
            hint="change it there",
            code="kept_elsewhere",
            connector=name,
        )
    if holds_reference(credential.written) and stored_name(credential.written) is None:
        raise ConfigError(
            f"{field} refers to a place that Atlas does not write to",
            hint=f"change it there, or keep it here: atlas connector update {name} --set {field}=-",
            code="kept_elsewhere",
            connector=name,
        )
