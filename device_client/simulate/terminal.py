"""Prints a report to a terminal: the paper's Table 5, the outcomes, the quality."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from device_client.simulate.words import cautions, headline, interval, leg_rows, ms, percent, score
from shared.outcomes import Outcome
from shared.report import Report


def print_report(report: Report, console: Console) -> None:
    """Prints the tables, then what the numbers say."""
    console.print(_legs(report))
    console.print(_outcomes(report))
    console.print(_quality(report))
    if report.model.synthetic:
        console.print("[yellow]Synthetic data: the quality says nothing about real users.[/]")
    for text in cautions(report):
        console.print(f"[yellow]{escape(text)}[/]")
    console.print(escape(headline(report)))


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left")
    return table


def _legs(report: Report) -> Table:
    heads = ("network", "upload ↑", "correction ○", "download ↓", "in all", "paper", "within")
    budget = ms(report.settings.budget_ms)
    table = _table(f"Time of a correction, median ms; budget {budget} ms", *heads)
    for row in leg_rows(report):
        times = [ms(time) for time in (*row.ours, row.paper[3])]
        table.add_row(row.profile, *times, percent(row.within))
    return table


def _outcomes(report: Report) -> Table:
    """Only the outcomes that occurred: all of them would not fit a narrow terminal."""
    words = [word for word in Outcome if any(each.outcomes[word] for each in report.profiles)]
    table = _table("Outcomes; those not named did not occur", "network", "requests", *words)
    for each in report.profiles:
        counts = (f"{each.outcomes[word]:,}" for word in words)
        table.add_row(report.label(each), f"{each.requests:,}", *counts)
    return table


def _quality(report: Report) -> Table:
    heads = ("network", "requests", "recall", "corrected", "local", "served", "gain, 95% interval")
    table = _table("NDCG@10 of the same requests", *heads)
    for result in report.profiles:
        quality = result.quality
        if quality is None:
            table.add_row(report.label(result), *["–"] * 6)
            continue
        table.add_row(
            report.label(result),
            f"{quality.requests:,}",
            percent(quality.recall),
            *(score(way.ndcg10) for way in (quality.corrected, quality.local, quality.served)),
            interval(quality.gain_ndcg10),
        )
    return table
