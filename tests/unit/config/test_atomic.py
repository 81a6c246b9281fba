"""Files that are replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_etl.config.atomic import ORDINARY, replacing
from atlas_etl.errors import DataError


def test_a_block_that_fails_leaves_the_file_and_tells_why(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("before")
    with pytest.raises(DataError, match="refused"), replacing(path, ORDINARY) as file:
        file.write(b"not yet flushed")
        raise DataError("refused")
    assert path.read_text() == "before"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("closes", [True, False])
def test_a_block_that_ends_replaces_the_file(tmp_path: Path, closes: bool) -> None:
    path = tmp_path / "rows.csv"
    with replacing(path, ORDINARY) as file:
        file.write(b"after")
        if closes:
            file.close()
    assert path.read_bytes() == b"after"
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none" / "rows.csv"
    with pytest.raises(FileNotFoundError), replacing(path, ORDINARY):
        pass
