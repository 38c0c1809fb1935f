"""Prints a report to a terminal: the paper's Table 5, what was served, outcomes, verdict."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.simulation.description import (
    cautions,
    headline,
    leg_rows,
    ms,
    occurred,
    percent,
    score,
)
from experiments.simulation.report import CASES, Case, Report
from experiments.simulation.verdict import verdict


def print_report(report: Report, console: Console) -> None:
    """Prints the tables, then the sentences, and the verdict last, next to the prompt."""
    console.print(_legs(report))
    console.print(_served(report))
    for case in report.cases:
        console.print(_outcomes(report, case))
    console.print(escape(headline(report)), highlight=False)
    judged = verdict(report)
    if report.model.synthetic:
        console.print("[yellow]Synthetic data: the quality says nothing about real users.[/]")
    for text in cautions(report):
        console.print(f"[yellow]{escape(text)}[/]", highlight=False)
    console.print(f"\n[bold]{escape(judged.title)}[/]", highlight=False)
    console.print(escape(judged.reason), highlight=False)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", no_wrap=not index)
    return table


def _legs(report: Report) -> Table:
    heads = ("network", "upload ↑", "correction ○", "download ↓", "in all", "paper", "within")
    budget = ms(report.settings.budget_ms)
    table = _table(f"Time of a correction, median ms; budget {budget} ms", *heads)
    for row in leg_rows(report):
        times = [ms(time) for time in (*row.ours, row.paper[3])]
        table.add_row(row.profile, *times, percent(row.within))
    return table


def _served(report: Report) -> Table:
    """What users got, by case."""
    heads = [head for case in report.cases for head in (f"corrected {CASES[case]}", "NDCG@10")]
    title = "Share of reranks served corrected, and NDCG@10 of what was served"
    table = _table(title, "network", *heads)
    for result in report.profiles:
        cells = []
        for case in report.cases:
            served = result.cases[case]
            cells += [percent(served.corrected_share), score(served.ranking.ndcg10)]
        table.add_row(report.label(result), *cells)
    return table


def _outcomes(report: Report, case: Case) -> Table:
    """The outcomes that occurred; all of them would not fit a narrow terminal."""
    outcomes = occurred(report)
    title = f"Reranks {CASES[case]}; outcomes not named did not occur"
    table = _table(title, "network", "reranks", *outcomes)
    for result in report.profiles:
        served = result.cases[case]
        counts = (f"{served.outcomes[outcome]:,}" for outcome in outcomes)
        table.add_row(report.label(result), f"{served.requests:,}", *counts)
    return table
