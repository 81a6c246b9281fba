"""Tokens of `protect`, turned back into the values that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_etl.errors import ConfigError, UsageError
from atlas_etl.protection.keys import KeyHolder
from atlas_etl.protection.pseudonyms import opened


def revealed(tokens: Sequence[str], holder: KeyHolder) -> list[str]:
    """Their values. Raises ConfigError (`missing_key`), UsageError (`not_a_token`)."""
    keys = holder.found()
    if keys is None:
        raise ConfigError(
            "this project has no key of `protect` yet, so none of its tokens either",
            hint="run this in the project whose connector made them",
            code="missing_key",
        )
    values = []
    for number, token in enumerate(tokens, 1):
        try:
            values.append(opened(keys.tokens, token))
        except ValueError:
            raise UsageError(
                f"number {number} is no token that was made with this project's key",
                hint="tokens are made by `protect: {column: tokenize}`; hashes are for ever",
                code="not_a_token",
            ) from None
    return values
