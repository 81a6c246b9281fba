"""Where the process begins: a shell that completes is answered without loading a command; else one is run.

That it was interrupted is said also while it is still being loaded.
"""

from __future__ import annotations

import importlib
import os
import sys

_ASKED_BY_SHELLS = frozenset(f"complete_{shell}" for shell in ("bash", "fish", "powershell", "pwsh", "zsh"))


def main() -> None:
    """The console script."""
    try:
        room = "completing" if os.environ.get("_ATLAS_COMPLETE") in _ASKED_BY_SHELLS else "app"
        importlib.import_module(f"atlas_etl.cli.{room}").main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.stderr.flush()
        os._exit(130)
