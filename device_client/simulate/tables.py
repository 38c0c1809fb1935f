"""The tables of the report page, as HTML. Every text is escaped here, in `cell` and `table`."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

from device_client.simulate.words import (
    bandwidth,
    interval,
    leg_rows,
    ms,
    percent,
    score,
)
from shared.outcomes import Outcome
from shared.report import Limit, Report, Summary

LEGS = {
    "upload": "upload ↑: first byte of the request to its last",
    "cloud": "correction time ○: last byte sent to first byte received",
    "download": "download ↓: first byte received to last",
    "total": "total: H to the whole correction",
    "queue": "queue: waiting in the cloud, within ○",
    "compute": "compute: the GCN in the cloud, within ○",
    "hidden": "hidden: click to H",
    "rerank": "rerank: the whole call, waiting included",
    "local": "local: ranking without a correction",
}


def cell(text: str, under: str = "", kind: str = "") -> str:
    """One cell; `under` is a small second line, `kind` a class."""
    attribute = f' class="{kind}"' if kind else ""
    small = f"<small>{escape(under)}</small>" if under else ""
    return f"<td{attribute}>{escape(text)}{small}</td>"


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    *,
    ends_in_words: bool = False,
) -> str:
    """A table whose rows are a name and finished cells. It scrolls by itself on a small screen."""
    kinds = [""] * len(heads)
    if ends_in_words:
        kinds[-1] = ' class="words"'
    head = "".join(
        f'<th scope="col"{kind}>{escape(text)}</th>'
        for text, kind in zip(heads, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>\n' for name, cells in rows
    )
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>"
    )


def legs_table(report: Report) -> str:
    """Table 5 of the paper, ours above the paper's where it has the network."""
    budget = report.settings.budget_ms
    rows = []
    for row in leg_rows(report):
        cells = [
            cell(ms(ours), "" if paper is None else f"paper {paper:g}")
            for ours, paper in zip(row.ours, row.paper, strict=True)
        ]
        rows.append((row.profile, [*cells, cell(percent(row.within))]))
    heads = [
        "Network",
        "Upload ↑",
        "Correction ○",
        "Download ↓",
        "In all",
        f"Within {ms(budget)} ms",
    ]
    return table(
        "Medians in ms; each median stands for itself, so legs need not add up.", heads, rows
    )


def outcomes_table(report: Report) -> str:
    """Counts and shares of all outcomes."""
    rows = []
    for result in report.profiles:
        every = max(result.requests, 1)
        cells = [
            cell(f"{result.outcomes[word]:,}", percent(result.outcomes[word] / every))
            for word in Outcome
        ]
        rows.append((report.label(result), [cell(f"{result.requests:,}"), *cells]))
    return table("Requests by outcome.", ["Network", "Requests", *Outcome], rows)


def glossary_table() -> str:
    """What each outcome means."""
    rows = [(word, [cell(word.meaning, kind="words")]) for word in Outcome]
    return table("What the outcomes mean.", ["Outcome", "Meaning"], rows, ends_in_words=True)


def quality_table(report: Report, measure: Literal["NDCG@10", "HitRate@10"]) -> str:
    """`measure` of the same requests, ranked three ways."""
    rows = []
    for result in report.profiles:
        quality = result.quality
        if quality is None:
            rows.append((report.label(result), [cell("–")] * 6))
            continue
        ways = (quality.corrected, quality.local, quality.served)
        if measure == "NDCG@10":
            scores, gain = [way.ndcg10 for way in ways], quality.gain_ndcg10
        else:
            scores, gain = [way.hitrate10 for way in ways], quality.gain_hitrate10
        numbers = [f"{quality.requests:,}", percent(quality.recall), *map(score, scores)]
        rows.append((report.label(result), [*map(cell, numbers), cell(interval(gain))]))
    heads = ["Network", "Requests", "Next click a candidate", "Corrected", "Local", "Served"]
    heads.append("Gain of the correction, 95% interval")
    return table(f"{measure} of the same requests, ranked three ways.", heads, rows)


_KEPT_UP: dict[Limit | None, str] = {
    None: "yes",
    "simulator": "no: saturated",
    "devices": "no: too few devices",
}


def traffic_table(report: Report) -> str:
    """Bytes of a rerank, and whether the simulator kept up."""
    rows = []
    for result in report.profiles:
        traffic, arrivals = result.traffic, result.arrivals
        late, own = (
            None if delay is None else delay.p99
            for delay in (arrivals.start_delay, arrivals.own_delay)
        )
        numbers = (traffic.payload_up, traffic.sent_up, traffic.payload_down, traffic.sent_down)
        rows.append(
            (
                report.label(result),
                [
                    *(cell(f"{number:,.0f}") for number in numbers),
                    cell(f"{arrivals.achieved_per_s:,.1f} of {arrivals.intended_per_s:,.1f}"),
                    cell(ms(late), f"its own {ms(own)}"),
                    cell("–" if arrivals.cpu_share is None else percent(arrivals.cpu_share)),
                    cell(_KEPT_UP[arrivals.limit(report.settings.budget_ms)]),
                ],
            )
        )
    heads = ["Network", "Up: payload", "Up: sent", "Down: payload", "Down: sent"]
    heads += ["Clicks/s, achieved of intended", "Start delay p99, ms"]
    heads += ["CPU, of a core", "Kept up"]
    return table("Mean bytes per rerank, and the simulator's own punctuality.", heads, rows)


def links_table(report: Report) -> str:
    """The numbers behind the names of the networks."""
    rows = []
    for result in report.profiles:
        link = result.link
        rows.append(
            (
                report.label(result),
                [
                    cell(bandwidth(link.up_bytes_per_s)),
                    cell(bandwidth(link.down_bytes_per_s)),
                    cell(f"{link.rtt_ms:g}"),
                    cell(f"{link.jitter_ms:g}"),
                    cell(f"{100 * link.loss:g}%"),
                    cell(result.description, kind="words"),
                ],
            )
        )
    heads = ["Network", "Up", "Down", "RTT, ms", "Jitter, ms", "Loss", "What it stands for"]
    note = "RTT is the shortest round trip; jitter is the mean on top of it."
    return table(note, heads, rows, ends_in_words=True)


def distribution_table(report: Report, leg: str) -> str:
    """The distribution of one leg, for every network."""
    rows = []
    for result in report.profiles:
        found: Summary | None = getattr(result.legs, leg)
        if found is None:
            rows.append((report.label(result), [cell("0"), *[cell("–")] * 6]))
            continue
        times = (found.mean, found.p50, found.p90, found.p99, found.p999, found.max)
        rows.append(
            (report.label(result), [cell(f"{found.count:,}"), *(cell(ms(time)) for time in times)])
        )
    heads = ["Network", "Count", "Mean", "p50", "p90", "p99", "p99.9", "Max"]
    return table(f"{LEGS[leg]}; ms.", heads, rows)
