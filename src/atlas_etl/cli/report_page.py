"""A report as HTML: tables and bars, no script, and nothing from elsewhere, as its own policy demands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from atlas_etl.api.report import SPANS, ConnectorReport
from atlas_etl.cli.quantities import age, size, took
from atlas_etl.cli.render import plain
from atlas_etl.model import Span, Verification

_MOST_LISTED = 50
_HEIGHT = 64  # of a chart's bars; as wide as one unit for each span


class Facts(Struct, frozen=True):
    """What a definition says of its connector. `wrong` is why it cannot be read."""

    protocol: str
    destination: str
    schedule: str | None
    next_at: datetime | None
    enabled: bool
    streams: tuple[str, ...] = ()
    wrong: str | None = None


class Bar(Struct, frozen=True):
    """A bar from the bottom; `title` is what it means."""

    place: int
    height: float
    failed: bool
    title: str


class Chart(Struct, frozen=True):
    """Bars over the time of the report; `scale` says what their heights and colours mean."""

    title: str
    scale: str
    bars: tuple[Bar, ...]


def page(
    project: str,
    since: datetime,
    until: datetime,
    reports: Sequence[ConnectorReport],
    facts: Mapping[str, Facts],
) -> str:
    """The whole page. What it shows is escaped, and free of what steers a terminal or turns text around."""
    pages = Environment(
        loader=PackageLoader("atlas_etl.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: plain(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(
        instant=_instant, ago=lambda at: age(until - at), size=size, took=took, count=lambda n: f"{n:,}"
    )
    charts = {one.name: _charts(one, since, until) for one in reports}
    return pages.get_template("report.html").render(
        project=project,
        since=since,
        until=until,
        reports=reports,
        facts=facts,
        charts=charts,
        height=_HEIGHT,
        listed=_MOST_LISTED,
    )


def _charts(one: ConnectorReport, since: datetime, until: datetime) -> tuple[Chart, ...]:
    charts = []
    if one.runs:
        charts += [
            _chart("rows", one.spans, lambda span: float(span.rows), lambda rows: f"{rows:,.0f} rows"),
            _chart("longest run", one.spans, lambda span: span.longest, took),
        ]
    if one.verifications:
        charts.append(_verified(one.verifications, since, until))
    return tuple(charts)


def _chart(
    title: str, spans: Sequence[Span], amount: Callable[[Span], float], told: Callable[[float], str]
) -> Chart:
    most = max(map(amount, spans), default=0.0)
    bars = tuple(
        Bar(
            place,
            max(2.0, _HEIGHT * amount(span) / most) if most else 2.0,
            span.failed > 0,
            f"{_instant(span.begins)} to {_instant(span.ends)}: {span.runs} runs, {span.failed} failed, "
            f"{told(amount(span))}",
        )
        for place, span in enumerate(spans)
        if span.runs
    )
    return Chart(title, f"up to {told(most)}", bars)


def _verified(found: Sequence[Verification], since: datetime, until: datetime) -> Chart:
    """Half as high where every stream was equal, so that colours are not all that tells."""
    width = (until - since) / SPANS
    within: dict[int, list[Verification]] = {}
    for each in found:
        within.setdefault(min(int((each.verified_at - since) / width), SPANS - 1), []).append(each)
    bars = []
    for place, own in sorted(within.items()):
        differ = sorted({each.stream for each in own if not each.is_equal})
        told = f"{', '.join(differ)} differed" if differ else "all equal"
        title = (
            f"{_instant(own[-1].verified_at)} to {_instant(own[0].verified_at)}: {len(own)} compared, {told}"
        )
        bars.append(Bar(place, float(_HEIGHT if differ else _HEIGHT / 2), bool(differ), title))
    return Chart("verified", "half: equal, whole: different", tuple(bars))


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")
