"""What the annotations of a pydantic model hold: the plain classes, and the models inside models."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel

from atlas_etl.config.keys import KeyPath


def types_in(annotation: object) -> set[type]:
    """The classes that an annotation allows: those of a union, and of `list[X]` the class `list`."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return set().union(*map(types_in, get_args(annotation)))
    if origin is Annotated:
        return types_in(get_args(annotation)[0])
    plain = origin or annotation
    return {plain} if isinstance(plain, type) else set()


def model_in(annotation: object) -> type[BaseModel] | None:
    """The one model that an annotation allows."""
    models = [found for found in types_in(annotation) if issubclass(found, BaseModel)]
    return models[0] if len(models) == 1 else None


def fields_of(model: type[BaseModel]) -> Mapping[str, object]:
    """The keys of a model as its users write them, with their annotations."""
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The model that is found by following keys and list indices from another one."""
    annotation: object = model
    for part in path:
        inner = model_in(annotation)
        if inner is not None and isinstance(part, str):
            annotation = fields_of(inner).get(part)
        else:
            annotation = next(
                (
                    get_args(option)[-1 if get_args(option)[-1] is not Ellipsis else 0]
                    for option in (annotation, *get_args(annotation))
                    if get_origin(option) in (list, tuple, dict, Mapping) and get_args(option)
                ),
                None,
            )
    return model_in(annotation)
