"""Writes a report as one self-contained HTML page, and as JSON."""

from html import escape
from pathlib import Path

from experiments.simulation import plots, tables
from experiments.simulation.description import PAPER_BUDGET_MS, cautions, headline, ms, seconds
from experiments.simulation.report import CASES, Report
from experiments.simulation.style import STYLE
from experiments.simulation.verdict import verdict
from shared.whole_file import write_whole

TITLE = "What the correction was worth, and what it cost"


def write_json(report: Report, path: Path) -> None:
    """Writes `report` to `path` as JSON, atomically. Raises OSError."""
    write_whole(path, report.model_dump_json(indent=1) + "\n")


def read_json(path: Path) -> Report:
    """Reads a file made by `write_json`. Raises OSError or pydantic's ValidationError."""
    return Report.model_validate_json(path.read_bytes())


def write_page(report: Report, path: Path) -> None:
    """Writes `report` to `path` as HTML, atomically. Raises OSError."""
    write_whole(path, html(report))


def html(report: Report) -> str:
    """Returns the HTML page. Equal reports give equal text."""
    sections = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{TITLE}</title>\n<style>\n{STYLE}</style></head>\n<body><main>",
        _top(report),
        _section("What the correction is worth", QUALITY_NOTE),
        tables.quality_table(report) if report.quality else "",
        _section("What users got", _cases_note(report)),
        tables.served_table(report),
        _section("In pictures"),
        _figures(report),
        _section("The time of a correction, as in the paper's Table 5", _paper_note(report)),
        tables.legs_table(report),
        _section("Outcomes"),
        *(tables.outcomes_table(report, case) for case in report.cases),
        tables.glossary_table(report),
        _section("Bytes and arrivals"),
        tables.traffic_table(report),
        tables.arrivals_table(report),
        _section("Every leg in full", LEGS_NOTE),
        *(
            _folded(text, tables.distribution_table(report, leg))
            for leg, text in tables.LEGS.items()
        ),
        *(
            _folded(tables.rerank_words(case), tables.reranks_table(report, case))
            for case in report.cases
        ),
        _section("The networks", LINKS_NOTE),
        tables.links_table(report),
        _section("The run"),
        _run(report),
        "</main></body></html>\n",
    ]
    return "\n".join(sections)


QUALITY_NOTE = (
    "NDCG@10 says how high in the list the next click stood, HitRate@10 how often it was among "
    "the first ten; one relevant item a request. Both rankings are of the same candidates, with "
    "every correction applied, and so the same over any network. The interval takes a user as one "
    "observation, since his requests resemble each other."
)
LEGS_NOTE = "A percentile is a time that did occur; the slowest tenth of a percent decides p99.9."
LINKS_NOTE = (
    "1 MB is 10^6 bytes. The paper's four networks have bandwidth alone. The others are "
    "assumptions about real ones, not measurements."
)


def _paper_note(report: Report) -> str:
    note = (
        "The paper divides the payload by the bandwidth and takes its GCN's time alone. Here all "
        "is measured on a device's own clock: HTTP headers, queues and any round trip are in it."
    )
    if report.settings.budget_ms != PAPER_BUDGET_MS:
        note += f" The paper's tolerance is {PAPER_BUDGET_MS} ms."
    return note


def _cases_note(report: Report) -> str:
    sentences = []
    if "at-once" in report.cases:
        sentences.append(
            "At once: the list is reranked at the click itself, and waits for the correction "
            f"{ms(report.settings.budget_ms)} ms from H at most."
        )
    if report.pauses is not None:
        drawn = report.pauses.drawn
        sentences.append(
            f"After a pause: the list is reranked when its user comes back to it, after "
            f"{report.pauses.source}: {seconds(drawn.p50)} in the median. A simulated pause ends "
            "early once the answer has come, since nothing can change after that."
        )
    return " ".join(sentences)


def _section(title: str, note: str = "") -> str:
    text = f"<h2>{escape(title)}</h2>"
    return f'{text}\n<p class="note">{escape(note)}</p>' if note else text


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def _banner(text: str) -> str:
    return f'<p class="banner" role="note">{text}</p>'


def _top(report: Report) -> str:
    model, settings = report.model, report.settings
    meta = (
        f"{settings.devices:,} simulated devices, {len(report.profiles)} networks, model "
        f"{model.version} ({model.name}) trained on {model.data}, "
        f"{report.created:%Y-%m-%d %H:%M %Z}"
    )
    sections = [f"<header><h1>{TITLE}</h1>", f'<p class="meta">{escape(meta)}</p></header>']
    judged = verdict(report)
    tone = {True: " yes", False: " no", None: ""}[judged.worth]
    sections.append(
        f'<section class="verdict{tone}" aria-label="Verdict"><h2>{escape(judged.title)}</h2>'
        f"<p>{escape(judged.reason)}</p></section>"
    )
    if model.synthetic:
        sections.append(
            _banner(
                f"<strong>Synthetic data.</strong> “{escape(model.data)}” was generated: no real "
                "person clicked. The times are real measurements; the quality says nothing about "
                "real users."
            )
        )
    sections += [_banner(escape(text)) for text in cautions(report)]
    sections.append(f'<p class="lead">{escape(headline(report))}</p>')
    return "\n".join(sections)


def _figures(report: Report) -> str:
    budget = f"{report.settings.budget_ms:g} ms"
    figures = [
        (
            "Where the time goes",
            plots.legs_plot(report),
            f"Median legs of a correction; the dashed line is the budget of {budget}. Diamonds "
            "are the sums in the paper's Table 5.",
        ),
        (
            "How often it takes longer",
            plots.latency_plot(report),
            "For each network, the share of corrections that took longer than a time, to 1 in "
            "1,000. A line that ends level counts requests that got no correction.",
        ),
        (
            "What became of the reranks",
            plots.outcomes_plot(report),
            "Share of each outcome; the numbers and the meanings are in the tables below.",
        ),
    ]
    if report.quality:
        figures.append(
            (
                "What users got",
                plots.served_plot(report),
                "NDCG@10 of what was served over each network, between that of local rankings and "
                "that of rankings with every correction. The axis does not start at zero.",
            )
        )
    return f'<div class="figures">{"".join(_figure(*figure) for figure in figures)}</div>'


def _figure(title: str, svg: str, caption: str) -> str:
    label = escape(f"{title}. {caption}", quote=True)
    return (
        f'<figure><h3>{escape(title)}</h3><div role="img" aria-label="{label}">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def _run(report: Report) -> str:
    machine, settings, model = report.machine, report.settings, report.model
    facts = {
        "Devices": f"{settings.devices:,}, of {settings.users:,} users",
        "Clicks": f"{settings.arrivals_per_s:g} a second for {settings.duration_s:g} s a network",
        "Budget": f"{settings.budget_ms:g} ms from H",
        "Form of the correction": ", ".join(report.forms),
        "Candidates": f"{settings.candidates:,}",
        "Reranks": f"{settings.think}: {' and '.join(CASES[case] for case in report.cases)}",
        "Seed": str(settings.seed),
        "Machine": f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.1f} GiB",
        "System": machine.os,
        "Versions": f"project {machine.project}, Python {machine.python}, ONNX Runtime "
        f"{machine.onnxruntime}, numpy {machine.numpy}",
        "Simulations": f"{settings.simulations:,}",
        "Model": f"{model.version} ({model.name}), trained on {model.data}",
    }
    facts |= {f"Model: {name}": f"{value:.4g}" for name, value in sorted(model.metrics.items())}
    pairs = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts.items()
    )
    return f"<dl>\n{pairs}</dl>"
