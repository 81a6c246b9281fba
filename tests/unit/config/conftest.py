"""What the tests of configuration share: a project folder, and how an error reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from atlas_etl.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "connectors.d").mkdir()
    return tmp_path


@pytest.fixture
def define(folder: Path) -> Callable[..., Path]:
    """Write a definition's file."""

    def write(text: str, name: str = "shop.yaml") -> Path:
        path = folder / "connectors.d" / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def refused() -> Callable[..., ConfigError]:
    """Call something that must raise a ConfigError with this code, and give the error back."""

    def call(code: str, function: Callable[..., object], *args: object, **kwargs: object) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            function(*args, **kwargs)
        assert caught.value.code == code, caught.value.message
        assert caught.value.exit_code == 2
        return caught.value

    return call
