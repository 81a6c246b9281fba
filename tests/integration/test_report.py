"""`atlas report`: a page that needs nothing beside itself, whatever names and errors it shows."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from html.parser import HTMLParser

import duckdb
import pytest
from tests.browser import CHROMIUM, FLAGS, page_in_chromium
from tests.project import Project

FOCUSED = """(() => {
  const at = document.activeElement, style = getComputedStyle(at), place = at.getBoundingClientRect();
  return {tag: at.tagName, label: at.getAttribute("aria-label") || at.innerText,
    is_outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    is_seen: place.width > 0 && place.left >= 0 && place.right <= innerWidth + 1};
})()"""
CUT = """[...document.querySelectorAll(".wide")].filter(each => each.scrollWidth > document.body.clientWidth)
  .map(each => each.getAttribute("aria-label"))"""
PAPER = 718  # pixels of CSS between the margins of A4, the narrower of the usual ones
ATTACK = "x<script>alert(1)</script>\x1b[2J"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture
def shop(project: Project) -> Project:
    """Two runs with a new column between them, a connector that fails, and one whose definition is wrong."""
    project.write(
        "connectors.d/shop.yaml", "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [t]\n"
    )
    project.write(
        "connectors.d/lost.yaml", "protocol: sqlite\nconnection: {database_path: no.db}\nstreams: [t]\n"
    )
    project.write("connectors.d/wrong.yaml", "protocol: sqlte\n")
    with closing(sqlite3.connect(project.folder / "shop.db")) as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        made.execute("INSERT INTO t VALUES (1), (2)")
        made.commit()
        assert project.atlas("connector", "sync", "shop").returncode == 0
        quoted = '"' + ATTACK + '"'
        made.execute(f"ALTER TABLE t ADD COLUMN {quoted} TEXT")
    again = project.atlas("connector", "sync", "shop", "--json")
    assert again.returncode == 0
    (stream,) = again.json()["runs"][0]["streams"]
    assert stream["schema_changes"] == [f"column {ATTACK!r} was added (text)"]
    assert project.atlas("connector", "sync", "lost").returncode == 3
    return project


def test_a_report_shows_runs_failures_and_changes_and_reaches_nothing(shop: Project) -> None:
    done = shop.atlas("report", "--since", "1d", "-o", "out/report.html", "--json")
    path = shop.folder / "out" / "report.html"
    assert done.json() == {"report": str(path), "connectors": 3}
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    shown = " ".join(page.texts)
    for part in ("shop", "completed", "lost", "failed", "no.db", "never", "definition is wrong", "was added"):
        assert part in shown
    assert shown.index("lost") < shown.index("shop")
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "img", "link", "iframe", "object", "form"}
    assert "\x1b" not in text
    targets = {given["href"] for _, given in page.tags if "href" in given}
    ids = {f"#{given['id']}" for _, given in page.tags if "id" in given}
    assert targets <= ids
    (policy,) = (given["content"] for _, given in page.tags if given.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_a_report_shows_what_was_verified(shop: Project) -> None:
    assert shop.atlas("connector", "verify", "shop").returncode == 0
    text = shop.atlas("report", "-o", "-").stdout
    shown = " ".join(Page(text).texts)
    assert "Compared with the source" in shown
    assert "1 compared, all equal" in shown
    assert "not verified" in shown  # the connector that never ran
    with duckdb.connect(str(shop.folder / "warehouse.duckdb")) as client:
        client.execute("DELETE FROM shop.t WHERE id = 1")
    assert shop.atlas("connector", "verify", "shop").returncode == 8
    shown = " ".join(Page(shop.atlas("report", "-o", "-").stdout).texts)
    assert "t differed" in shown
    assert "different" in shown


def test_a_report_of_nothing_is_a_page_too(project: Project) -> None:
    done = project.atlas("report", "--output", "-")
    assert done.returncode == 0
    assert "There are no connectors yet." in Page(done.stdout).texts
    assert not (project.folder / ".atlas").exists()


def test_unknown_names_and_times_are_refused(shop: Project) -> None:
    assert shop.atlas("report", "shp").returncode == 2
    assert "did you mean 'shop'" in shop.atlas("report", "shp").stderr
    assert shop.atlas("report", "--since", "soon").returncode == 2


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_and_prints_it(shop: Project) -> None:
    assert shop.atlas("report", "-o", "report.html").returncode == 0
    page = (shop.folder / "report.html").as_uri()
    browser = [str(CHROMIUM), *FLAGS, f"--user-data-dir={shop.home / 'browser'}"]
    found = subprocess.run(
        [*browser, "--dump-dom", page], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.count("<section") == 3
    assert "<rect" in found.stdout
    assert "Content Security Policy" not in found.stderr
    printed = shop.folder / "report.pdf"
    subprocess.run([*browser, f"--print-to-pdf={printed}", page], capture_output=True, timeout=60, check=True)
    assert printed.read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_keyboard_reaches_everything_and_sees_where_it_is(shop: Project) -> None:
    assert shop.atlas("connector", "verify", "shop").returncode == 0
    assert shop.atlas("report", "-o", "report.html").returncode == 0
    page = shop.folder / "report.html"
    with page_in_chromium(page, shop.home / "browser", width=500) as browser:
        reached = []
        while not reached or reached[-1]["tag"] != "BODY":
            browser.press("Tab", 9)
            reached.append(browser.value(FOCUSED))
            assert len(reached) < 100, reached
        *reached, _ = reached
        assert [each for each in reached if not (each["is_outlined"] and each["is_seen"])] == []
        links = [each["label"] for each in reached if each["tag"] == "A"]
        assert links == ["To the connectors", "lost", "shop", "wrong"]
        scrolled = {
            each["label"] for each in reached if each["tag"] == "DIV"
        }  # which the arrow keys move then
        assert {"streams", "compared with the source"} <= scrolled
        browser.press("Tab", 9)
        assert browser.value(FOCUSED)["label"] == "To the connectors"
        browser.press("Enter", 13, "\r")
        assert browser.value("location.hash") == "#connectors"
        browser.press("Tab", 9)
        assert browser.value(FOCUSED)["label"] == "The same as a table"
        browser.press("Enter", 13, "\r")
        assert browser.value("document.querySelector('details').open") is True


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_no_table_is_cut_on_paper(shop: Project) -> None:
    assert shop.atlas("connector", "verify", "shop").returncode == 0
    assert shop.atlas("report", "-o", "report.html").returncode == 0
    with page_in_chromium(shop.folder / "report.html", shop.home / "browser") as browser:
        size = {"width": PAPER, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        browser.call("Emulation.setDeviceMetricsOverride", **size)
        browser.call("Emulation.setEmulatedMedia", media="print")
        assert browser.value("document.body.clientWidth") == PAPER
        assert browser.value(CUT) == []
