"""Packages of extras, imported when they are needed, or the line that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from atlas_etl.errors import MissingDriverError


def imported(module: str, extra: str) -> ModuleType:
    """A module of a package that an extra installs. Raises MissingDriverError."""
    try:
        return importlib.import_module(module)
    except ImportError as failure:
        package = module.partition(".")[0] if failure.name is None else failure.name
        raise MissingDriverError(
            f"this needs the package {package!r}, which is not installed",
            hint=f'pip install "atlas-etl[{extra}]"',
        ) from None
