"""Reading YAML and JSON: exact values, exact lines, and clear refusals that show no content."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from atlas_etl.config.yaml_source import (
    MAX_DEPTH,
    MAX_NODES,
    parse,
    parse_mapping,
    read_given_mapping,
    read_mapping,
)
from atlas_etl.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("'null'", "null"),
        ("5432", 5432),
        ("-1", -1),
        ("0123", "0123"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("+5", "+5"),
        ("0.5", 0.5),
        ("1.10", "1.10"),
        ("1e5", "1e5"),
        ("1e+16", 1e16),
        (".inf", ".inf"),
        ("9" * 40, 10**40 - 1),
        ("9" * 5000, "9" * 5000),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T12:30:45Z", "2024-01-01T12:30:45Z"),
        ("'12:30:45'", "12:30:45"),
        ("12:34:56:78", "12:34:56:78"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_a_scalar_is_what_it_says(text: str, value: object) -> None:
    read = parse_mapping(f"key: {text}", "f.yaml").values["key"]
    assert read == value
    assert type(read) is type(value)


def test_keys_are_text_as_written() -> None:
    assert parse_mapping("on: 1\n1: 2\n~: 3\n12:30: 4", "f").values == {"on": 1, "1": 2, "~": 3, "12:30": 4}


def test_json_with_tabs_is_read() -> None:
    text = '{\n\t"a": ["x\\ty", 1.0, null],\n\t"b": "\\/"\n}'
    assert parse(text, "f.json").values == {"a": ["x\ty", 1.0, None], "b": "/"}


def test_lines_are_those_of_the_keys() -> None:
    document = parse_mapping("a: 1\nb:\n  - x\n  - c: |\n      text\n    d: 2\n", "f.yaml")
    assert document.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1): 4,
        ("b", 1, "c"): 4,
        ("b", 1, "d"): 6,
    }
    assert document.place("f.yaml", ("b", 1, "d", "deeper")) == "f.yaml:6"
    assert document.place("f.yaml", ("z",)) == "f.yaml"


def test_an_alias_is_its_anchor_again_and_independent() -> None:
    values = parse_mapping("a: &x [1, {b: 2}]\nc: *x\n", "f").values
    assert values["c"] == values["a"] == [1, {"b": 2}]
    assert values["c"] is not values["a"]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (
            "connection:\n  host: a\n  host: b",
            "duplicate_key",
            "f.yaml:3: connection.host: this key is given twice (first on line 2)",
        ),
        ('{"a": 1, "a": 2}', "duplicate_key", "f.yaml:1: a: this key is given twice (first on line 1)"),
        ("1: a\n'1': b", "duplicate_key", "f.yaml:2: 1: this key is given twice (first on line 1)"),
        (
            "streams:\n  - at: 12:30:45",
            "yaml_sexagesimal",
            "f.yaml:2: streams[0].at: YAML readers take an unquoted 12:30:45 for text or",
        ),
        ("a: 1:30", "yaml_sexagesimal", "f.yaml:1: a: "),
        ("a: 01:30", "yaml_sexagesimal", "f.yaml:1: a: "),
        ("a: -1:30.5", "yaml_sexagesimal", "f.yaml:1: a: "),
        ("a: [1:30]", "yaml_sexagesimal", "f.yaml:1: a[0]: "),
        ("<<: {a: 1}", "yaml_merge_key", "f.yaml:1: merge keys (<<) are not supported"),
        ("a: !!python/object/apply:os.system [x]", "yaml_tag", "f.yaml:1: a: tags (!...) are not supported"),
        ("a: !!int '5'", "yaml_tag", "f.yaml:1: a: tags (!...) are not supported"),
        ("a: &x [*x]", "yaml_alias", "f.yaml:1: a[0]: an anchor that contains itself"),
        ("? [a, b]\n: c", "yaml_key", "f.yaml:1: a key here is not text"),
        ("a: 1\n---\nb: 2", "multiple_documents", "f.yaml:2: a second document begins here"),
        ("- a", "not_a_mapping", "f.yaml should hold `key: value` lines at its top"),
        ("a: \x01", "yaml_syntax", "f.yaml:1: a control character that YAML does not allow"),
        ('a: "\\ud83d"', "yaml_syntax", "f.yaml:1: a: half of a surrogate pair (\\ud800 to \\udfff)"),
        (
            "a: 1\nschedule: */5 * * * *",
            "yaml_syntax",
            "f.yaml:2:12: schedule: not valid YAML: expected alphabetic or numeric character, but found '/'",
        ),
        (
            "a:\n\tb: 1",
            "yaml_syntax",
            "f.yaml:2:1: not valid YAML: found character '\\t' that cannot start any token",
        ),
    ],
)
def test_refused(text: str, code: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mapping(text, "f.yaml")
    assert caught.value.code == code
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    "line",
    [
        "password: *hunter2",
        "password: *hunter2!x",
        "password: &hunter2 *hunter2",
        "password: !hunter2 x",
        "password: !hunter2!hunter2 x",
        "password: @hunter2",
        "password: %hunter2",
        "password: `hunter2",
        'password: "hunter2',
        "password: 'hunter2\n",
        "password: hunter2: hunter2",
        "password: [hunter2",
        "password: {hunter2",
        "password: hunter2\n\thunter2",
        "password: |hunter2",
        'password: "\\hunter2"',
        "%hunter2 hunter2\n---\n",
        "password: 12:30 # hunter2\n- hunter2",
        "password: hunter2\x07",
    ],
)
def test_no_error_shows_what_the_line_says(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mapping(f"connection:\n  {line}", "f.yaml")
    assert "hunter" not in f"{caught.value.message} {caught.value.hint}"
    assert "f.yaml:" in caught.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a:\n\tb: 1", "not with tabs"),
        ("a:\n  b: 1\n c: 2", "in the column of the lines that it belongs with"),
        ("a:\n  - b: 1\n   c: 2", "in the column of the lines that it belongs with"),
        ("a: 1\n  b: 2", "in the column of the one above it"),
        ("a: b: c", "a value with ': ' in quotes"),
        ("x: 1\na: {b: 1\nc: 2", "close the bracket that line 2 opens"),
        ("a: {b: ${env:NAME}}", '"${env:NAME}"'),
        ("x: 1\na: 'b\nc: 1", "close the quote that line 2 opens"),
        ('a: "C:\\data"', "in it a backslash is itself"),
        ("a: 1\nb 2\nc: 3", "write `key: value`"),
        ("a: @b", "in quotes"),
    ],
)
def test_a_hint_says_how_what_was_found_is_mended(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mapping(text, "f.yaml")
    assert hint in (caught.value.hint or "")


def _billion_laughs() -> str:
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    return "\n".join(lines)


def _chain() -> str:
    return "a0: &a0 x\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 300))


@pytest.mark.parametrize(
    "text",
    [
        _billion_laughs(),
        _chain(),
        "a: " + "[" * 100_000,
        "{a: " * 100_000,
        "a: [" + "[]," * MAX_NODES + "]",
        "a: " + "x" * (1024 * 1024),
    ],
    ids=["laughs", "chain", "lists", "mappings", "many", "long"],
)
def test_bombs_are_defused_quickly(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    assert caught.value.code == "yaml_too_large"
    assert len(caught.value.message) < 200
    assert time.process_time() - begun < 20


def test_the_depth_that_is_allowed_is_read() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f").values is not None


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\r\nb: 2\r\n")
    assert read_mapping(path, "f.yaml").values == {"a": "ä", "b": 2}
    path.write_bytes(b"")
    assert read_mapping(path, "f.yaml").values == {}
    path.write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(ConfigError, match=r"^f\.yaml:2: not UTF-8 text$"):
        read_mapping(path, "f.yaml")
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_mapping(path, "f.yaml")
    with pytest.raises(ConfigError, match=r"^g\.yaml cannot be read: No such file or directory$"):
        read_mapping(tmp_path / "g.yaml", "g.yaml")
    with pytest.raises(ConfigError, match=r"^d cannot be read: Is a directory$"):
        read_mapping(tmp_path, "d")


def test_completion_loads_neither_pydantic_nor_yaml_and_nothing_loads_a_driver() -> None:
    light = "atlas_etl.config.folder, atlas_etl.config.project_folder, atlas_etl.config.secret_references"
    heavy = ", ".join(
        f"atlas_etl.config.{path.stem}"
        for path in Path(sys.modules["atlas_etl.config.yaml_source"].__file__ or "").parent.glob("[a-z]*.py")
    )
    script = (
        f"import sys, {light}\n"
        "found = {'pydantic', 'yaml'} & set(sys.modules)\n"
        f"import {heavy}\n"
        "drivers = {'pyarrow', 'sqlalchemy', 'duckdb', 'psycopg', 'pymysql', 'requests'}\n"
        "found |= drivers & set(sys.modules)\n"
        "sys.exit(f'loaded {found}' if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_pipe_is_refused_at_once_unless_the_user_names_it(tmp_path: Path) -> None:
    pipe = tmp_path / "a.yaml"
    os.mkfifo(pipe)
    (tmp_path / "link.yaml").symlink_to(pipe)
    for path in (pipe, tmp_path / "link.yaml", Path("/dev/zero")):
        with pytest.raises(ConfigError) as caught:
            read_mapping(path, "a.yaml")
        assert caught.value.code == "file_unreadable"
        assert "no regular file" in caught.value.message
    writer = threading.Thread(target=lambda: pipe.write_text("a: 1\n"), daemon=True)
    writer.start()
    assert read_given_mapping(pipe).values == {"a": 1}
    writer.join()


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    assert read_mapping(tmp_path / "link.yaml", "link.yaml").values == {"a": 1}
