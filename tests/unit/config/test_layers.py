"""Layering: the last layer wins key by key, and its name stays with the key."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from atlas_etl.config.keys import KeyPath, dotted
from atlas_etl.config.layers import Layer, LayerKind, Origin, file_layer, leaves, mapping_layer, merge
from atlas_etl.config.yaml_source import parse_mapping

keys = st.sampled_from("abc")
scalars = st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2)
mappings = st.recursive(
    st.dictionaries(keys, scalars, max_size=3),
    lambda inner: st.dictionaries(keys, scalars | inner, max_size=3),
    max_leaves=6,
)


def _model(layers: list[dict[str, object]]) -> dict[KeyPath, tuple[object, int]]:
    """The rule, on flattened keys: a leaf replaces what is at, above and below its key.

    An empty mapping is a leaf that gives way to what is below it and is kept out by it.
    """
    flat: dict[KeyPath, tuple[object, int]] = {}
    for number, layer in enumerate(layers):
        for path, value in leaves(layer):
            below = [at for at in flat if at[: len(path)] == path and at != path]
            if value == {} and (below or flat.get(path, (None,))[0] == {}):
                continue
            for at in list(flat):
                if at[: len(path)] == path or path[: len(at)] == at:
                    del flat[at]
            flat[path] = (value, number)
    return flat


@given(st.lists(mappings, max_size=5))
def test_merge_is_a_fold_of_updates_and_origins_are_the_last_to_set_a_key(
    layers: list[dict[str, object]],
) -> None:
    merged = merge(
        Layer(values, lambda _path, number=number: Origin(LayerKind.DICT, variable=str(number)))  # type: ignore[misc]
        for number, values in enumerate(layers)
    )
    model = _model(layers)
    assert dict(leaves(merged.values)) == {path: value for path, (value, _) in model.items()}
    assert merged.origins == {
        path: Origin(LayerKind.DICT, variable=str(number)) for path, (_, number) in model.items()
    }


@given(st.lists(mappings, min_size=1, max_size=4))
def test_merging_changes_no_layer_and_shares_nothing(layers: list[dict[str, object]]) -> None:
    before = repr(layers)
    merged = merge(mapping_layer(LayerKind.DICT, layer) for layer in layers)
    _ruin(merged.values)
    assert repr(layers) == before


def _ruin(value: object) -> None:
    if isinstance(value, dict):
        for item in list(value.values()):
            _ruin(item)
        value["ruined"] = True
    elif isinstance(value, list):
        value.append("ruined")


def _layered() -> Mapping[str, str]:
    text = "host: a\noptions:\n  sslmode: require\n  timeout: 1\n"
    merged = merge(
        [
            mapping_layer(LayerKind.DEFAULT, {"host": "localhost", "port": 5432}),
            file_layer(LayerKind.FILE, parse_mapping(text, "shop.yaml"), "shop.yaml"),
            mapping_layer(LayerKind.OVERRIDE, {"options": {"timeout": 5}}),
        ]
    )
    return {dotted(path): str(origin) for path, origin in merged.origins.items()}


def test_origins_name_the_layer_and_the_line() -> None:
    assert _layered() == {
        "host": "file shop.yaml:1",
        "port": "default",
        "options.sslmode": "file shop.yaml:3",
        "options.timeout": "override",
    }


def test_lists_replace_and_null_is_a_value() -> None:
    merged = merge(
        [
            mapping_layer(LayerKind.DEFAULT, {"a": [1, 2], "b": 1, "c": {"d": 1}}),
            mapping_layer(LayerKind.DICT, {"a": [3], "b": None, "c": None}),
        ]
    )
    assert merged.values == {"a": [3], "b": None, "c": None}
    assert str(merged.origin(("c", "d"))) == "dict"


def test_the_origin_of_a_mapping_is_that_of_what_is_in_it() -> None:
    merged = merge([mapping_layer(LayerKind.DICT, {"a": {"b": {"c": 1}}})])
    assert merged.origin(("a",)) == merged.origin(("a", "b", "c", "d")) == Origin(LayerKind.DICT)
    assert merged.origin(("z",)) is None
    assert merged.under("a", "b").values == {"c": 1}
    assert merged.under("a", "b").origins == {("c",): Origin(LayerKind.DICT)}
    assert merged.under("a", "b", "c", "d").values == {}


def test_no_value_is_in_a_repr() -> None:
    merged = merge([mapping_layer(LayerKind.DICT, {"password": "hunter2"})])
    assert "hunter2" not in repr(merged) + repr(merged.as_layer())


def test_dotted_keys_can_be_told_apart() -> None:
    assert dotted(("streams", 0, "cursor")) == "streams[0].cursor"
    assert dotted(("headers", "a.b", "x-y")) == "headers['a.b'].x-y"
