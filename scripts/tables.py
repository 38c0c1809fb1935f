"""Writes the tables of figures in docs/ from benchmarks/results, between their markers.

    python scripts/tables.py            # writes them
    python scripts/tables.py --check    # exit code 1 where one is stale

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; `TABLES` has the names.
"""

import argparse
import re
import sys
from collections.abc import Callable

import device_tables
import performance_tables
import results_tables
import staleness_tables
from table_parts import ROOT

PAGES = ("docs/results.md", "docs/performance.md")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


TABLES: dict[str, Callable[[], str]] = {
    **performance_tables.TABLES,
    **results_tables.TABLES,
    **staleness_tables.TABLES,
    **device_tables.TABLES,
}


def fresh(text: str) -> str:
    """The text of a page with every marked table as the results say it now."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> int:
    """Writes the tables, or checks them; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    is_check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        if fresh(text) != text:
            stale.append(page)
            if not is_check:
                (ROOT / page).write_text(fresh(text), "utf-8")
    if is_check and stale:
        print(f"Stale tables in {', '.join(stale)}: run python scripts/tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
