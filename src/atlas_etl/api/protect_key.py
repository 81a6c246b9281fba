"""The project's key of `protect`: what atlas.yaml refers to, or a secret that is made when it is needed."""

from __future__ import annotations

import base64
import os

from atlas_etl.config.project import Project
from atlas_etl.config.secret_names import PROTECT_KEY
from atlas_etl.protection.keys import KeyHolder
from atlas_etl.redactor import learn
from atlas_etl.secrets.store import SecretStore


def key_holder(project: Project, store: SecretStore) -> KeyHolder:
    """Where hashes and tokens of this project get their key from."""

    def find() -> str | None:
        given = project.protect_key()
        if given is not None:
            learn([given])
            return given
        return store.get(PROTECT_KEY) if PROTECT_KEY in store.changed() else None

    def make() -> str:
        return store.get_or_make(PROTECT_KEY, lambda: base64.b64encode(os.urandom(32)).decode())

    return KeyHolder(find, make)
