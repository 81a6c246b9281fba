"""Waits that whoever looks on should know of, in a log of their own, which the command line shows."""

from __future__ import annotations

import logging
from typing import Final

from atlas_etl.redactor import redacted

NAME: Final = "atlas_etl.waits"
_LONG = 5.0  # seconds in which nobody wonders
_log = logging.getLogger(NAME)


def tell(seconds: float, why: str) -> None:
    """Say for whom and how long is waited, unless that is soon over."""
    if why and seconds >= _LONG:
        _log.info("%s: waiting for %s", redacted(why), _length(seconds))


def tell_try(why: str) -> None:
    """Say of what took long that it is tried again."""
    _log.info("%s: trying again", redacted(why))


def tell_lock(where: str, holder: str) -> None:
    """Say who holds a lock that is waited for."""
    _log.info("%s: waiting for a lock that is held by %s", where, redacted(holder))


def _length(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"
