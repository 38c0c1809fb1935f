"""Writes a report as one HTML page that needs nothing else, and as JSON."""

import os
import tempfile
from html import escape
from pathlib import Path

from device_client.simulate import plots, tables
from device_client.simulate.style import STYLE
from device_client.simulate.words import PAPER_BUDGET_MS, cautions, headline
from shared.report import Report

TITLE = "What the correction was worth, and what it cost"


def write_json(report: Report, path: Path) -> None:
    """Writes `report` to `path`, whole or not at all. Raises OSError."""
    _write(path, report.model_dump_json(indent=1) + "\n")


def read_json(path: Path) -> Report:
    """Reads what `write_json` wrote. Raises OSError, or pydantic's ValidationError."""
    return Report.model_validate_json(path.read_bytes())


def write_page(report: Report, path: Path) -> None:
    """Writes `report` to `path` as HTML, whole or not at all. Raises OSError."""
    _write(path, html(report))


def html(report: Report) -> str:
    """The page. The same report gives the same text."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{TITLE}</title>\n<style>\n{STYLE}</style></head>\n<body><main>",
        _top(report),
        _figures(report),
        _section("The time of a correction, as in the paper's Table 5", _paper_note(report)),
        tables.legs_table(report),
        _section("Outcomes"),
        tables.outcomes_table(report),
        tables.glossary_table(),
        _section("Quality", QUALITY_NOTE),
        tables.quality_table(report, "NDCG@10"),
        tables.quality_table(report, "HitRate@10"),
        _section("Bytes and arrivals"),
        tables.traffic_table(report),
        _section("Every leg in full", LEGS_NOTE),
        *(
            _folded(text, tables.distribution_table(report, leg))
            for leg, text in tables.LEGS.items()
        ),
        _section("The networks", LINKS_NOTE),
        tables.links_table(report),
        _section("The run"),
        _run(report),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


QUALITY_NOTE = (
    "One relevant item a request: the next click. Corrected and local rank the same candidates; "
    "served is what the user saw: corrected where the correction came in time, local elsewhere. "
    "The interval takes requests as independent; those of one user are not, so it is somewhat "
    "narrow."
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
        f"{model.version} trained on {model.data}, {report.created:%Y-%m-%d %H:%M %Z}"
    )
    parts = [f"<header><h1>{TITLE}</h1>", f'<p class="meta">{escape(meta)}</p></header>']
    if model.synthetic:
        parts.append(
            _banner(
                f"<strong>Synthetic data.</strong> “{escape(model.data)}” was generated: no real "
                "person clicked. The times are real measurements; the quality says nothing about "
                "real users."
            )
        )
    parts += [_banner(escape(text)) for text in cautions(report)]
    parts.append(f'<p class="lead">{escape(headline(report))}</p>')
    return "\n".join(parts)


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
            "What became of the requests",
            plots.outcomes_plot(report),
            "Share of each outcome; the numbers and the meanings are in the tables below.",
        ),
    ]
    if any(result.quality for result in report.profiles):
        figures.append(
            (
                "What it was worth",
                plots.quality_plot(report),
                "The same requests ranked with the correction, without it, and as served. The "
                "axes do not start at zero; marks inside one another are equal.",
            )
        )
    return f'<div class="figures">{"".join(_figure(*each) for each in figures)}</div>'


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
        "Think time": f"{settings.think_time_ms:g} ms from click to rerank, mean",
        "Seed": str(settings.seed),
        "Machine": f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.1f} GiB",
        "System": machine.os,
        "Versions": f"project {machine.project}, Python {machine.python}, ONNX Runtime "
        f"{machine.onnxruntime}, numpy {machine.numpy}",
        "Model": f"{model.version}, trained on {model.data}",
    }
    facts |= {f"Model: {name}": f"{value:.4g}" for name, value in sorted(model.metrics.items())}
    pairs = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts.items()
    )
    return f"<dl>\n{pairs}</dl>"


def _write(path: Path, text: str) -> None:
    """Writes beside `path` and renames: a reader sees the old file or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
