"""The tables of the report page as HTML. `cell` and `table` escape every text."""

from collections.abc import Iterable, Sequence
from html import escape

from experiments.simulation.description import (
    bandwidth,
    bounds,
    leg_rows,
    ms,
    occurred,
    percent,
    relative,
    score,
    signed,
    signed_percent,
)
from experiments.simulation.measured import Limit, Summary
from experiments.simulation.report import CASES, Case, Report

LEGS = {
    "upload": "upload ↑: first byte of the request to its last",
    "cloud": "correction time ○: last byte sent to first byte received",
    "download": "download ↓: first byte received to last",
    "total": "total: H to the whole correction",
    "queue": "queue: waiting in the cloud, within ○",
    "compute": "compute: the GCN in the cloud, within ○",
    "hidden": "hidden: click to H",
    "local": "local: ranking alone, without waiting",
}


def cell(text: str, under: str = "", css_class: str = "") -> str:
    """Returns one cell. `under` is a second line in small type."""
    attribute = f' class="{css_class}"' if css_class else ""
    small = f"<small>{escape(under)}</small>" if under else ""
    return f"<td{attribute}>{escape(text)}{small}</td>"


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    *,
    ends_in_words: bool = False,
) -> str:
    """Returns a table of rows (name, finished cells). On a small screen it scrolls on its own.

    `ends_in_words`: the last column holds text, not numbers.
    """
    css_classes = [""] * len(heads)
    if ends_in_words:
        css_classes[-1] = ' class="words"'
    head = "".join(
        f'<th scope="col"{css_class}>{escape(text)}</th>'
        for text, css_class in zip(heads, css_classes, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>\n' for name, cells in rows
    )
    label = escape(caption, quote=True)
    # The caption is outside of what scrolls: inside, it would be as wide as the table.
    return (
        f'<p class="caption">{escape(caption)}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
        f"\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _at(summary: Summary | None, level: str) -> str:
    """Formats one percentile of a distribution; a dash if there is none."""
    return ms(None if summary is None else getattr(summary, level))


def legs_table(report: Report) -> str:
    """Table 5 of the paper: our medians, and below them the paper's if it has the network."""
    budget = report.settings.budget_ms
    some_unsplit = any(result.unsplit for result in report.profiles)
    rows = []
    for row, result in zip(leg_rows(report), report.profiles, strict=True):
        cells = [
            cell(ms(ours), "" if paper is None else f"paper {paper:g}")
            for ours, paper in zip(row.ours, row.paper, strict=True)
        ]
        gcn = result.legs.compute
        cells.insert(2, cell(_at(gcn, "p50")))
        cells.append(cell(percent(row.within)))
        if some_unsplit:
            cells.append(cell(f"{result.unsplit:,}", percent(result.unsplit / result.requests)))
        rows.append((row.profile, cells))
    heads = ["Network", "Upload ↑", "Correction ○", "of it GCN", "Download ↓", "In all"]
    heads.append(f"Within {ms(budget)} ms")
    caption = "Medians in ms; each median stands for itself, so legs need not add up."
    if some_unsplit:
        heads.append("Not split")
        caption += (
            " Not split: corrections whose legs contradict the cloud's own account, since a busy "
            "machine read the device's clock late; they are in “In all”, and not in the legs."
        )
    return table(caption, heads, rows)


def served_table(report: Report) -> str:
    """For each network: the share of corrected reranks, NDCG@10 as served, and the gain."""
    heads = ["Network"]
    for outcomes in ("Corrected {}", "NDCG@10 {}", "Over local {}"):
        heads += [outcomes.format(CASES[case]) for case in report.cases]
    rows = []
    for result in report.profiles:
        served = [result.cases[case] for case in report.cases]
        cells = [
            *(cell(percent(got.corrected_share)) for got in served),
            *(
                cell(score(got.ranking.ndcg10), f"HitRate {score(got.ranking.hitrate10)}")
                for got in served
            ),
            *(cell(signed(got.gain_ndcg10.mean), bounds(got.gain_ndcg10)) for got in served),
        ]
        rows.append((report.label(result), cells))
    caption = (
        "What was served: corrected where the correction was there in time, local elsewhere. Over "
        "local: NDCG@10 served minus that of local rankings of the same requests, and its 95% "
        "interval."
    )
    return table(caption, heads, rows)


def outcomes_table(report: Report, case: Case) -> str:
    """Counts and shares of the outcomes that occurred."""
    outcomes = occurred(report)
    rows = []
    for result in report.profiles:
        served = result.cases[case]
        cells = [
            cell(
                f"{served.outcomes[outcome]:,}", percent(served.outcomes[outcome] / served.requests)
            )
            for outcome in outcomes
        ]
        rows.append((report.label(result), [cell(f"{served.requests:,}"), *cells]))
    caption = f"Reranks {CASES[case]}, by outcome; those not named did not occur."
    return table(caption, ["Network", "Reranks", *outcomes], rows)


def glossary_table(report: Report) -> str:
    """The meaning of each outcome that occurred."""
    rows = [(outcome, [cell(outcome.meaning, css_class="words")]) for outcome in occurred(report)]
    return table("What the outcomes mean.", ["Outcome", "Meaning"], rows, ends_in_words=True)


def quality_table(report: Report) -> str:
    """Quality with every correction applied, so independent of the network."""
    rows = []
    for quality in report.quality:
        for name, corrected, local, gain in (
            ("NDCG@10", quality.corrected.ndcg10, quality.local.ndcg10, quality.gain_ndcg10),
            (
                "HitRate@10",
                quality.corrected.hitrate10,
                quality.local.hitrate10,
                quality.gain_hitrate10,
            ),
        ):
            label = name if len(report.quality) == 1 else f"{name}, {quality.form}"
            rows.append(
                (
                    label,
                    [
                        cell(score(corrected)),
                        cell(score(local)),
                        cell(signed(gain.mean), bounds(gain)),
                        cell(signed_percent(relative(gain.mean, local))),
                        cell(f"{quality.requests:,}", f"{quality.users:,} users"),
                        cell(percent(quality.recall)),
                    ],
                )
            )
    heads = ["Measure", "Corrected", "Local", "Gain, 95% interval", "Relative", "Requests"]
    heads.append("Next click a candidate")
    return table("The same requests, ranked with the correction and without.", heads, rows)


_KEPT_UP: dict[Limit | None, str] = {
    None: "yes",
    "simulator": "no: no processor time to spare",
    "machine": "late: the machine was busy",
    "devices": "no: too few devices",
}


def traffic_table(report: Report) -> str:
    """Mean bytes per rerank."""
    rows = []
    for result in report.profiles:
        traffic = result.traffic
        counts = (traffic.payload_up, traffic.sent_up, traffic.payload_down, traffic.sent_down)
        rows.append((report.label(result), [cell(f"{count:,.0f}") for count in counts]))
    heads = ["Network", "Up: payload", "Up: sent", "Down: payload", "Down: sent"]
    return table("Mean bytes per request, those that came to nothing included.", heads, rows)


def arrivals_table(report: Report) -> str:
    """Whether the simulator kept up."""
    rows = []
    for result in report.profiles:
        arrivals = result.arrivals
        start, own_delay = arrivals.start_delay, arrivals.own_delay
        rows.append(
            (
                report.label(result),
                [
                    cell(f"{arrivals.achieved_per_s:,.1f} of {arrivals.intended_per_s:,.1f}"),
                    cell(_at(start, "p90"), f"p99 {_at(start, 'p99')}"),
                    cell(_at(own_delay, "p90"), f"p99 {_at(own_delay, 'p99')}"),
                    cell("–" if arrivals.cpu_share is None else percent(arrivals.cpu_share)),
                    cell(_KEPT_UP[arrivals.limit(report.settings.budget_ms)]),
                ],
            )
        )
    heads = ["Network", "Clicks/s, achieved of intended", "Start delay p90, ms"]
    heads += ["The simulator's own", "CPU, of a core", "Kept up"]
    return table("The simulator's own punctuality.", heads, rows)


def links_table(report: Report) -> str:
    """The parameters of each network profile."""
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
                    cell(result.description, css_class="words"),
                ],
            )
        )
    heads = ["Network", "Up", "Down", "RTT, ms", "Jitter, ms", "Loss", "What it stands for"]
    note = "RTT is the shortest round trip; jitter is the mean on top of it."
    return table(note, heads, rows, ends_in_words=True)


def distribution_table(report: Report, leg: str) -> str:
    """The distribution of one leg for every network."""
    rows = [(report.label(result), getattr(result.legs, leg)) for result in report.profiles]
    return _distributions(f"{LEGS[leg]}; ms.", rows)


def reranks_table(report: Report, case: Case) -> str:
    """The distribution of whole rerank calls of `case` for every network."""
    rows = [(report.label(result), result.cases[case].rerank) for result in report.profiles]
    return _distributions(f"{rerank_words(case)}; ms.", rows)


def rerank_words(case: Case) -> str:
    """Title of `reranks_table`."""
    return f"rerank {CASES[case]}: the whole call, waiting included"


def _distributions(caption: str, summaries: Iterable[tuple[str, Summary | None]]) -> str:
    rows = []
    for label, summary in summaries:
        if summary is None:
            rows.append((label, [cell("0"), *[cell("–")] * 6]))
            continue
        times = (
            summary.mean, summary.p50, summary.p90, summary.p99, summary.p999, summary.max,
        )  # fmt: skip
        rows.append((label, [cell(f"{summary.count:,}"), *(cell(ms(time)) for time in times)]))
    heads = ["Network", "Count", "Mean", "p50", "p90", "p99", "p99.9", "Max"]
    return table(caption, heads, rows)
