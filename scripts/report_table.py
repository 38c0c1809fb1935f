"""The figures of a report as Markdown, as docs/results.md shows them.

example:
  python scripts/report_table.py report/report.json
"""

import sys
from pathlib import Path

from experiments.simulation.report import CASES, ProfileResult, Report

PAPER = {"4g-5": 2.52, "4g-15": 1.63, "5g-50": 1.32, "5g-100": 1.25}
"""CoCorrRec, Table 5: ↑, ○ and ↓ together, in ms."""
HEAD = "| network | ↑ | ○ | ↓ | in all | paper | p99 | p99.9 | within budget |"


def main() -> int:
    """Prints the table of the report named on the command line."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    report = Report.model_validate_json(Path(sys.argv[1]).read_bytes())
    cases = "".join(f" corrected {CASES[case]} | served |" for case in report.cases)
    print(HEAD + cases)
    print("|---" * (9 + 2 * len(report.cases)) + "|")
    for profile in report.profiles:
        print(_row(report, profile))
    for quality in report.quality:
        gain = quality.gain_ndcg10
        print(
            f"\nNDCG@10 of the same {quality.requests:,} requests of {quality.users:,} users, form "
            f"{quality.form}: corrected {quality.corrected.ndcg10:.4f}, local "
            f"{quality.local.ndcg10:.4f}; difference {gain.mean:+.4f} ({gain.low:+.4f} to "
            f"{gain.high:+.4f}, by user); HitRate@10 {quality.corrected.hitrate10:.4f} and "
            f"{quality.local.hitrate10:.4f}; the next click was among the candidates in "
            f"{quality.recall:.1%}."
        )
    metrics = report.model.metrics
    names = ("all/ndcg@10", "all/hitrate@10", "sampled100/ndcg@10", "sampled100/uauc")
    print("\n| test click | " + " | ".join(names) + " |\n|---|---|---|---|---|")
    for way in ("corrected", "local", "popularity"):
        cells = [metrics.get(f"{way}/{name}") for name in names]
        print(f"| {way} | " + " | ".join("" if c is None else f"{c:.4f}" for c in cells) + " |")
    return 0


def _row(report: Report, profile: ProfileResult) -> str:
    legs = profile.legs
    medians = [summary and summary.p50 for summary in (legs.upload, legs.cloud, legs.download)]
    total = legs.total
    cells = [
        *(_ms(median) for median in medians),
        _ms(total and total.p50),
        f"{PAPER[profile.name]}" if profile.name in PAPER else "",
        _ms(total and total.p99),
        _ms(total and total.p999),
        f"{profile.share_within_budget:.1%}",
    ]
    for served in profile.cases.values():
        cells += [f"{served.corrected_share:.1%}", f"{served.ranking.ndcg10:.4f}"]
    return f"| {report.label(profile)} | " + " | ".join(cells) + " |"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
