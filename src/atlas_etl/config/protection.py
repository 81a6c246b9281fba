"""The rules of `protect`: `{email: hash, phone: {mask: {keep_last: 4}}, ssn: drop, card: tokenize}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, Field, JsonValue, WithJsonSchema, model_validator

from atlas_etl.config.fields import MODEL_CONFIG
from atlas_etl.model import Protection, Rule

_MOST_KEPT = 64
_KEPT: dict[str, JsonValue] = {"type": "integer", "minimum": 0, "maximum": _MOST_KEPT}
_SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            {"enum": [how.value for how in Protection]},
            {
                "type": "object",
                "properties": {
                    "mask": {
                        "type": "object",
                        "properties": {"keep_first": dict(_KEPT), "keep_last": dict(_KEPT)},
                        "additionalProperties": False,
                    }
                },
                "required": ["mask"],
                "additionalProperties": False,
            },
        ]
    },
}


class RuleDefinition(BaseModel):
    """What becomes of one column's values."""

    model_config = MODEL_CONFIG

    how: Protection
    keep_first: int = Field(default=0, ge=0, le=_MOST_KEPT, strict=True)
    keep_last: int = Field(default=0, ge=0, le=_MOST_KEPT, strict=True)

    @model_validator(mode="after")
    def _only_masks_keep(self) -> Self:
        if (self.keep_first or self.keep_last) and self.how is not Protection.MASK:
            raise ValueError(f"{self.how} has no options; only mask keeps characters")
        return self


def _spelled_out(value: object) -> object:
    """`hash` and `{mask: {keep_last: 4}}` in the model's own form. Raises ValueError."""
    if isinstance(value, str):
        return {"how": value}
    if isinstance(value, Mapping) and len(value) == 1:
        (how, options), *_ = value.items()
        if options is None or isinstance(options, Mapping):
            return {**(options or {}), "how": how}
    raise ValueError("should be hash, mask, drop or tokenize, or such as {mask: {keep_last: 4}}")


Protect = Annotated[
    dict[
        Annotated[str, Field(min_length=1)],
        Annotated[RuleDefinition, BeforeValidator(_spelled_out)],
    ],
    WithJsonSchema(_SCHEMA),
]


def rules_of(protect: Mapping[str, RuleDefinition]) -> dict[str, Rule]:
    """The rules as the pipeline knows them."""
    return {name: Rule(rule.how, rule.keep_first, rule.keep_last) for name, rule in protect.items()}
