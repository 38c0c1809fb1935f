"""The figures of a report as Markdown, as docs/results.md shows them.

example:
  python scripts/report_table.py report/report.json
"""

import sys
from pathlib import Path

from shared.outcomes import Outcome
from shared.report import ProfileResult, Report

PAPER = {"4g-5": 2.52, "4g-15": 1.63, "5g-50": 1.32, "5g-100": 1.25}
"""CoCorrRec, Table 5: ↑, ○ and ↓ together, in ms."""
HEAD = (
    "| network | ↑ | ○ | ↓ | in all | paper | p99 | p99.9 | within budget | applied | served |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Prints the table of the report named on the command line."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    report = Report.model_validate_json(Path(sys.argv[1]).read_bytes())
    quality = report.profiles[0].quality
    print(HEAD)
    for profile in report.profiles:
        print(_row(profile))
    if quality is not None:
        gain = quality.gain_ndcg10
        print(
            f"\nNDCG@10 of the same {quality.requests:,} requests: corrected "
            f"{quality.corrected.ndcg10:.4f}, local {quality.local.ndcg10:.4f}; difference "
            f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}); HitRate@10 "
            f"{quality.corrected.hitrate10:.4f} and {quality.local.hitrate10:.4f}; the next click "
            f"was among the candidates in {quality.recall:.1%}."
        )
    found = report.model.metrics
    names = ("all/ndcg@10", "all/hitrate@10", "sampled100/ndcg@10", "sampled100/uauc")
    print("\n| test click | " + " | ".join(names) + " |\n|---|---|---|---|---|")
    for kind in ("corrected", "local", "popularity"):
        cells = [found.get(f"{kind}/{name}") for name in names]
        print(f"| {kind} | " + " | ".join("" if c is None else f"{c:.4f}" for c in cells) + " |")
    return 0


def _row(profile: ProfileResult) -> str:
    legs, quality = profile.legs, profile.quality
    if legs.upload is None or legs.cloud is None or legs.download is None or legs.total is None:
        return f"| {profile.name} | no correction came |"
    times = (legs.upload.p50, legs.cloud.p50, legs.download.p50, legs.total.p50)
    paper = f"{PAPER[profile.name]}" if profile.name in PAPER else ""
    return (
        f"| {profile.name} | "
        + " | ".join(_ms(time) for time in times)
        + f" | {paper} | {_ms(legs.total.p99)} | {_ms(legs.total.p999)}"
        + f" | {profile.share_within_budget:.1%}"
        + f" | {profile.outcomes[Outcome.APPLIED]:,} of {profile.requests:,}"
        + f" | {quality.served.ndcg10:.4f} |"
        if quality is not None
        else " | |"
    )


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
