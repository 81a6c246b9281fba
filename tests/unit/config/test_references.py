"""References: expanded once, in files only, and no error shows a value."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl.config.layers import Layer, LayerKind, Origin, file_layer, mapping_layer, merge
from atlas_etl.config.references import Expanded, ReferenceContext, expand
from atlas_etl.config.yaml_source import MappingDocument, parse_mapping
from atlas_etl.errors import ConfigError


def _expand(text: str, folder: Path, environ: dict[str, str]) -> Expanded:
    layered = merge([file_layer(LayerKind.FILE, parse_mapping(text, "shop.yaml"), "shop.yaml")])
    return expand(layered, ReferenceContext(folder, environ))


def _one(text: str, environ: dict[str, str], folder: Path = Path("/nowhere")) -> object:
    layered = merge([file_layer(LayerKind.FILE, MappingDocument({"key": text}, {}), "shop.yaml")])
    return expand(layered, ReferenceContext(folder, environ)).values["key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:A}", "1"),
        ("x${env:A}y${env:A}", "x1y1"),
        ("${env:A:-2}", "1"),
        ("${env:NONE:-a:-b c}", "a:-b c"),
        ("${env:EMPTY}", ""),
        ("${env:EMPTY:-2}", "2"),
        ("${env:NONE:-}", ""),
        ("$${env:A}", "${env:A}"),
        ("$$${env:A}", "$${env:A}"),
        ("$${", "${"),
        ("$5 {a} $$ a}", "$5 {a} $$ a}"),
    ],
)
def test_a_text(text: str, value: str) -> None:
    assert _one(text, {"A": "1", "EMPTY": ""}) == value


_SAFE = st.text(st.characters(exclude_characters="$", exclude_categories=["Cs"]))
_ANY = st.text(st.sampled_from("ab$${}:-") | st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(_SAFE, _ANY), min_size=1))
def test_what_a_reference_stands_for_is_never_read_again(parts: list[tuple[str, str]]) -> None:
    environ = {f"V{number}": f"${{env:V{number}}}{value}" for number, (_, value) in enumerate(parts)}
    text = "".join(f"{before}${{env:V{number}}}" for number, (before, _) in enumerate(parts))
    wanted = "".join(f"{before}{environ[f'V{number}']}" for number, (before, _) in enumerate(parts))
    assert _one(text, environ) == wanted


@given(_ANY)
def test_every_text_can_be_written(text: str) -> None:
    # Doubling the dollar of every ${ is all that it takes.
    assert _one(text.replace("${", "$${"), {}) == text


def test_values_of_the_environment_and_of_programs_are_left_alone(tmp_path: Path) -> None:
    origins = {
        "environment": Origin(LayerKind.ENVIRONMENT, variable="X"),
        "dict": Origin(LayerKind.DICT),
        "done": Origin(LayerKind.FILE, file="f", expanded=True),
    }
    values = {key: f"${{env:{key}}}" for key in origins}
    layered = merge([Layer(values, lambda path: origins[str(path[0])])])
    assert expand(layered, ReferenceContext(tmp_path, {})).values == values


def test_scalars_at_any_depth_and_what_was_a_reference(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/pw").write_bytes(b"\xef\xbb\xbfs3cret \r\n\n")
    text = "a: [x, {b: '${file:secrets/pw}'}]\n'${env:A}': 1\nc: 5\n"
    expanded = _expand(text, tmp_path, {"A": "1"})
    assert expanded.values == {"a": ["x", {"b": "s3cret "}], "${env:A}": 1, "c": 5}
    assert expanded.references == {("a", 1, "b"): "${file:secrets/pw}"}
    assert "s3cret" not in repr(expanded)


def test_absolute_and_home_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pw").write_text("x\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _one(f"${{file:{tmp_path}/pw}}", {}) == "x"
    assert _one("${file:~/pw}", {}) == "x"


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("${env:PW}", "missing_variable", "environment variable PW is not set"),
        ("x${env:PW}y", "missing_variable", "environment variable PW is not set"),
        ("${env:}", "reference_syntax", "an `env` reference needs a variable's name"),
        ("${env:A B}", "reference_syntax", "an `env` reference needs a variable's name"),
        ("${file:no}", "missing_file", "file no cannot be read: No such file or directory"),
        ("${file:.}", "missing_file", "file . cannot be read: Is a directory"),
        ("${file:}", "reference_syntax", "a `file` reference needs a path"),
        (
            "${file:binary}",
            "missing_file",
            "file binary is not a file of UTF-8 text of at most 1048576 bytes",
        ),
        ("${file:large}", "missing_file", "file large is not a file of UTF-8 text of at most 1048576 bytes"),
        ("${file:pipe}", "missing_file", "file pipe cannot be read: it is no regular file"),
        ("${file:/dev/zero}", "missing_file", "file /dev/zero cannot be read: it is no regular file"),
        ("${file:~nobody-here/x}", "missing_file", "file ~nobody-here/x cannot be read: no such home folder"),
        ("${secret:shop/password}", "reference_place", "a `secret` reference has no place here"),
        ("${cmd:true}", "reference_place", "a `cmd` reference has no place here"),
        ("${secrets:shop/password}", "unknown_reference", "unknown kind of reference 'secrets'"),
        ("${ENV:A}", "reference_syntax", "a ${...} that does not say what it refers to"),
        ("${hunter2}", "reference_syntax", "a ${...} that does not say what it refers to"),
        ("${}", "reference_syntax", "a ${...} that does not say what it refers to"),
        ("hunter2${hunter2", "reference_syntax", "a ${ without its closing brace, or with one inside"),
        ("${env:A:-${env:B}}", "reference_syntax", "a ${ without its closing brace, or with one inside"),
    ],
)
def test_refused(text: str, code: str, why: str, tmp_path: Path, refused: Callable[..., ConfigError]) -> None:
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    (tmp_path / "large").write_bytes(b"hunter2" * 200_000)
    os.mkfifo(tmp_path / "pipe")
    written = f"connection:\n  password: '{text}'\n"
    error = refused(code, _expand, written, tmp_path, {"A": "1"})
    assert error.message.startswith(f"shop.yaml:2: connection.password: {why}")
    assert "hunter2" not in f"{error.message}{error.hint}"


def test_hints(tmp_path: Path, refused: Callable[..., ConfigError]) -> None:
    def hint(text: str, code: str) -> str | None:
        return refused(code, _expand, f"a: '{text}'", tmp_path, {}).hint

    assert hint("${env:PW}", "missing_variable") == "set it, or give a default: ${env:PW:-default}"
    assert hint("${fil:x}", "unknown_reference") == "did you mean 'file'?"
    known = "known: env, file, secret, keyring, cmd, vault, aws-sm, gcp-sm; write $${ for a literal ${"
    assert hint("${bitwarden:x}", "unknown_reference") == known
    examples = "${env:NAME}, ${file:PATH} or ${secret:NAME/FIELD}; write $${ for a literal ${"
    assert hint("${x}", "reference_syntax") == examples
    assert hint("${file:x}", "missing_file") == f"relative paths begin at {tmp_path}"


def test_a_layer_without_references_is_unchanged(tmp_path: Path) -> None:
    layered = merge([mapping_layer(LayerKind.DICT, {"a": {"b": ["${env:X}", 1, None]}})])
    assert expand(layered, ReferenceContext(tmp_path, {})).values == layered.values
