"""Where the process begins: it says that it was interrupted, also while it is still being loaded."""

from __future__ import annotations

import importlib
import os
import sys


def main() -> None:
    """The console script."""
    try:
        importlib.import_module("atlas_etl.cli.app").main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.stderr.flush()
        os._exit(130)
