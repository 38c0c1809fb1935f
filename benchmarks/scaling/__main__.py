"""Cost of scaling: more model versions, a larger catalogue, more devices.

versions   one cloud that answers for 1, 10 and 100 versions: latency, memory, start
catalogue  10 thousand to a million items: the bundle, the device in a fresh process, the cloud
devices    10 to 1,000 simulated devices against one cloud, and which of the two is at its end

    OMP_NUM_THREADS=1 python -m benchmarks.scaling                  on an idle machine
    OMP_NUM_THREADS=1 python -m benchmarks.scaling --only versions  one part; keeps nothing
    OMP_NUM_THREADS=1 python -m benchmarks.scaling --short          a glance that keeps nothing
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import keep
from benchmarks.scaling import catalogue, devices, versions
from benchmarks.scaling.figure import draw

FIGURE: Final = Path(__file__).parents[2] / "docs" / "figures" / "scaling.svg"
PARTS: Final = {"versions": versions, "catalogue": catalogue, "devices": devices}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the parts asked for and prints them; keeps results and figure of all together."""
    options = _options(arguments)
    results: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in [options.only] if options.only else list(PARTS):
            results[part] = _measured(part, options, folder)
            PARTS[part].show(results[part])
            ratios |= PARTS[part].ratios(results[part])
    print()
    for name, ratio in ratios.items():
        goal = f" (goal {ratio['goal']:g})" if "goal" in ratio else ""
        print(f"{name}: {ratio['value']:.2f}{goal}")
    print(f"{time.perf_counter() - begun:.0f} s in all")
    if not options.short and not options.only:
        keep("scaling", results, ratios)
        draw(results, FIGURE)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, help="one part alone; keeps nothing")
    parser.add_argument("--versions", type=int, nargs="+", help="published (1 10 100)")
    parser.add_argument("--items", type=int, nargs="+", help="in the catalogue (10000 to 1000000)")
    parser.add_argument("--devices", type=int, nargs="+", help="simulated (10 100 1000)")
    parser.add_argument("--clicks", type=float, default=devices.CLICKS, help="a second, each (2)")
    parser.add_argument("--rounds", type=int, help="fresh processes of every point (3)")
    parser.add_argument("--count", type=int, help="corrections or reranks of each (1,000)")
    parser.add_argument("--seconds", type=float, help="of each simulation (6)")
    parser.add_argument("--short", action="store_true", help="a glance that keeps nothing")
    options = parser.parse_args(arguments)
    short = options.short
    options.versions = sorted(options.versions or ((1, 10) if short else (1, 10, 100)))
    usual = (2_000, 20_000) if short else (10_000, 100_000, 1_000_000)
    options.items = sorted(options.items or usual)
    options.devices = sorted(options.devices or ((10, 100) if short else (10, 100, 1000)))
    options.rounds = options.rounds or (1 if short else 3)
    options.count = options.count or (100 if short else 1000)
    options.seconds = options.seconds or (2.0 if short else 6.0)
    return options


def _measured(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    rounds, count = options.rounds, options.count
    if name == "versions":
        return versions.measured(options.versions, rounds, count, folder)
    if name == "catalogue":
        return catalogue.measured(options.items, rounds, count, folder)
    seconds, clicks = options.seconds, options.clicks
    return devices.measured(options.devices, rounds, seconds, clicks, folder)


if __name__ == "__main__":
    main()
