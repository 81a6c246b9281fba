"""The pages of the documentation, and the blocks that they tell people to type."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("*/*.md"))]

_FENCED = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.S | re.M)


def blocks(page: Path, language: str = "") -> list[str]:
    """The page's code blocks in this language, in order; without one, those that are typed into a shell."""
    found = _FENCED.finditer(page.read_text(encoding="utf-8"))
    return [textwrap.dedent(each[3]) for each in found if each[2] == language]
