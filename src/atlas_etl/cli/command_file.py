"""commands.json: every command with its options, which `scripts/docs` writes; found without loading any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

COMMANDS: Final = Path(__file__).with_name("commands.json")


def commands_called(name: str) -> list[str]:
    """The commands of this name, of whatever group, as they are written: `atlas connector sync`."""
    commands = json.loads(COMMANDS.read_bytes())
    return [f"`atlas {words}`" for words in commands if words.rpartition(" ")[2] == name]
