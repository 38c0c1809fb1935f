"""Do the tests notice faults? Seeds known ones, each in a copy of the tree, and runs tests on it.

    python scripts/seeded_faults.py --list
    python scripts/seeded_faults.py                   # all; goes on where it was cut off
    python scripts/seeded_faults.py --only 7 --only 9

A fault is a text that stands exactly once in the program's files, and what takes its place. It is
`caught` where one of its test files fails, or runs out of time; `MISSED` where all pass; `invalid`
where the text is not found exactly once (it was rewritten: so must the fault be). Results are
written to a JSON file after each fault. The faults are in `scripts/fault_list.py`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from fault_list import FAULTS, Fault

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = ("shared", "device_client", "cloud_service", "experiments")
TESTS: Final = ("tests", "benchmarks")
COPIED: Final = (*PROGRAM, *TESTS, "recipes", "docs", "scripts")
FILES: Final = ("pyproject.toml", "README.md", "Makefile", "constraints.txt")
RESULTS: Final = ROOT / "build" / "seeded_faults.json"
LIMIT_SECONDS: Final = 300.0


class Invalid(Exception):
    """The fault does not fit the tree."""


def place_of(fault: Fault, root: Path) -> Path:
    """The one file of the program that holds the fault's text, once. Raises Invalid."""
    counts = {
        path: count
        for folder in PROGRAM
        for path in (root / folder).rglob("*.py")
        if (count := path.read_text("utf-8").count(fault.old))
    }
    if sum(counts.values()) != 1:
        places = ", ".join(f"{path.relative_to(root)} ({n})" for path, n in counts.items())
        raise Invalid(f"its text is found {sum(counts.values())} times: {places or 'nowhere'}")
    return next(iter(counts))


def test_files(fault: Fault, root: Path) -> list[str]:
    """The paths of the fault's test files, found by their names. Raises Invalid."""
    found = []
    for name in fault.tests:
        paths = [path for folder in TESTS for path in (root / folder).rglob(f"test_{name}.py")]
        if len(paths) != 1:
            raise Invalid(f"there are {len(paths)} files test_{name}.py")
        found.append(str(paths[0].relative_to(root)))
    return found


def copy_tree(target: Path) -> Path:
    """A copy of the tree to break; real click logs stay beside it, where tests look for them."""
    root = target / "tree"
    root.mkdir()
    for folder in COPIED:
        shutil.copytree(
            ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "results")
        )
    for name in FILES:
        shutil.copy(ROOT / name, root / name)
    if (ROOT.parent / "shared").is_dir():
        (target / "shared").symlink_to(ROOT.parent / "shared")
    return root


def run_tests(root: Path, files: list[str], limit: float) -> tuple[str, str]:
    """`passed`, `failed` or `timeout`, and the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return "timeout", f"more than {limit:g} s"
    failures = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if process.returncode not in (0, 1) and not failures:
        return "broken", said[-500:]
    return ("passed" if process.returncode == 0 else "failed"), "".join(failures[:1])[:200]


def seed(fault: Fault, limit: float) -> dict[str, Any]:
    """The outcome of one fault: caught, MISSED or invalid, with the time and the first failure."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seeded-fault-") as folder:
        root = copy_tree(Path(folder))
        try:
            place, files = place_of(fault, root), test_files(fault, root)
        except Invalid as error:
            return {"outcome": "invalid", "first": str(error), "seconds": 0.0}
        place.write_text(place.read_text("utf-8").replace(fault.old, fault.new), "utf-8")
        ended, first = run_tests(root, files, limit)
    outcome = {"passed": "MISSED", "failed": "caught", "timeout": "caught"}.get(ended, "invalid")
    return {
        "outcome": outcome,
        "place": str(place.relative_to(root)),
        "tests": files,
        "first": first,
        "seconds": round(time.monotonic() - begun, 1),
    }


def run(numbers: list[int], results: Path, limit: float, *, again: bool) -> dict[str, Any]:
    """Seeds the faults of these numbers, without those that `results` holds already."""
    kept: dict[str, Any] = json.loads(results.read_text("utf-8")) if results.exists() else {}
    results.parent.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        fault = FAULTS[number - 1]
        if not again and kept.get(fault.name, {}).get("outcome") == "caught":
            continue
        found = seed(fault, limit)
        kept[fault.name] = {"group": fault.group} | found
        results.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        print(
            f"{number:2}/{len(FAULTS)} {found['outcome']:8} {found['seconds']:6.1f} s  "
            f"{fault.group}: {fault.name}  {found['first']}",
            flush=True,
        )
    return kept


def listed() -> int:
    """Prints every fault with its place; the exit status is 1 where one does not fit the tree."""
    status = 0
    for number, fault in enumerate(FAULTS, 1):
        try:
            place = str(place_of(fault, ROOT).relative_to(ROOT))
            test_files(fault, ROOT)
        except Invalid as error:
            place, status = f"INVALID: {error}", 1
        print(f"{number:2} {fault.group:10} {fault.name}: {place}")
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="name the faults and their places")
    parser.add_argument("--only", type=int, action="append", help="a fault's number; repeatable")
    parser.add_argument("--again", action="store_true", help="seed those that were caught as well")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.list:
        return listed()
    numbers = given.only or list(range(1, len(FAULTS) + 1))
    kept = run(numbers, given.results, given.limit, again=given.again or bool(given.only))
    outcomes = [kept.get(fault.name, {}).get("outcome", "not run") for fault in FAULTS]
    counts = ", ".join(f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes))
    print(f"{len(FAULTS)} faults: {counts}")
    return 0 if set(outcomes) == {"caught"} else 1


if __name__ == "__main__":
    sys.exit(main())
