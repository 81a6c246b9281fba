"""The pages of errors, found by the code that a message shows; the same files are the site's."""

from __future__ import annotations

from pathlib import Path

from atlas_etl.errors import UsageError, nearest

_PAGES = Path(__file__).with_name("error_pages")


def codes() -> list[str]:
    """The codes that have a page, in their order."""
    return sorted(page.stem for page in _PAGES.glob("*.md"))


def page(code: str) -> str:
    """The page, in Markdown. Raises UsageError (`unknown_code`) with the nearest codes."""
    known = codes()
    if code not in known:
        raise UsageError(
            f"no page tells of an error {code!r}",
            hint=nearest(code, known) or "`atlas explain` lists those that have a page",
            code="unknown_code",
        )
    return _PAGES.joinpath(f"{code}.md").read_text(encoding="utf-8")


def summary(code: str) -> str:
    """What the error is, in a sentence: the page's first one."""
    return page(code).split("\n\n", 2)[1].replace("\n", " ")


def command_for(code: str) -> str | None:
    """The command that explains this error; None where no page does."""
    return f"atlas explain {code}" if _PAGES.joinpath(f"{code}.md").is_file() else None
