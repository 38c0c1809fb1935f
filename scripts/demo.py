"""The main job, end to end: train, export, serve, rerank on devices, measure the correction.

Starts a cloud and a worker as processes of their own, submits a training job, waits for it, lets
simulated devices replay users the model has never seen, and says where the report is. Whatever
was started is stopped at the end. The store is kept: the next run with the same data serves the
model that is there (--retrain trains anew).

example:
  python scripts/demo.py
  python scripts/demo.py --data clicks.csv.gz --items items.csv --report report
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent
RECIPE = {
    "epochs": 12,
    "patience": 3,
    "holdout_users": 0.1,
    "gcn": "projected",
    "teachers": "item-knn",
}
"""Of the demo: the defaults of a job, but for a shorter training, users to replay, and the form of
the correction that gains most for its cost (the paper's is `causal`)."""

MADE = "demo.json"
"""In the store: what the demo's model was made of."""


def main() -> int:
    """Runs the demo. Gives the exit status."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped, too
    begun = time.monotonic()
    options.store.mkdir(parents=True, exist_ok=True)
    environment = {
        **_outside(),
        "CLOUD_STORE": str(options.store),
        "CLOUD_SERVE_REPLAYS": "true",
    }
    recipe = dict(RECIPE)
    if options.data:
        environment["CLOUD_DATA_FOLDER"] = str(_data_folder(options))
        recipe["data"] = options.data.name
        if options.items:
            recipe["items"] = _items_name(options)
    log = options.store / "demo.log"
    with (
        _process(["cloud-service", "serve", "--port", "0"], environment, log) as cloud,
        _process(["cloud-service", "worker"], environment, options.store / "worker.log"),
    ):
        url = _address(cloud, log)
        print(f"cloud at {url} (its API: {url}/docs)", flush=True)
        made = {"clicks": _digest(options.data, options.items), "recipe": recipe}
        if options.retrain or not _has_model(url, options.store, made):
            store = ["--store", str(options.store)]  # where the admin token is
            _run("cloud-service", "jobs", "submit", "--url", url, *store, "--wait", *_flags(recipe))
            made["version"] = httpx.get(f"{url}/v1/models/production").headers["model-version"]
            (options.store / MADE).write_text(json.dumps(made), "utf-8")
        simulated = [f"--report={options.report}", f"--bundles={options.store / 'bundles'}"]
        _run("device-client", "simulate", "--url", url, *simulated, *options.simulate)
    print(f"the whole loop took {time.monotonic() - begun:.0f} s")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\nexample", 1)[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=_path, help="a click log (default: the synthetic world)")
    parser.add_argument("--items", type=_path, help="an item file with titles")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--report", type=Path, default=Path("report"))
    parser.add_argument("--retrain", action="store_true", help="even if there is such a model")
    parser.add_argument("simulate", nargs="*", help="further options of device-client simulate")
    return parser.parse_args()


def _path(text: str) -> Path | None:
    """A file that exists, or None for an empty text (an unset variable of make)."""
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}: check the path")
    return path


def _data_folder(options: argparse.Namespace) -> Path:
    """A folder that holds the log (and the items) alone, for jobs to name."""
    folder: Path = options.store / "demo-data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / options.data.name).symlink_to(options.data.resolve())
    if options.items:
        (folder / _items_name(options)).symlink_to(options.items.resolve())
    return folder


def _items_name(options: argparse.Namespace) -> str:
    """The item file's name, apart from the log's where both have the same."""
    same = options.items.name == options.data.name
    return f"items-{options.items.name}" if same else options.items.name


def _flags(recipe: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items()]


def _digest(*paths: Path | None) -> str:
    """A sha256 over the files' contents."""
    found = hashlib.sha256()
    for path in filter(None, paths):
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


def _has_model(url: str, store: Path, made: dict[str, object]) -> bool:
    """Whether production is what this demo made of the same clicks and recipe."""
    record = store / MADE
    answer = httpx.get(f"{url}/v1/models/production")
    if answer.status_code != httpx.codes.OK or not record.is_file():
        return False
    version = answer.headers["model-version"]
    same: bool = json.loads(record.read_text("utf-8")) == made | {"version": version}
    if same:
        print(f"version {version} is a model of these clicks (--retrain trains anew)", flush=True)
    return same


def _address(cloud: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and cloud.poll() is None:
        for line in log.read_text().splitlines():
            if "running on http://" in line:
                return line.split("running on ")[1].split()[0]
        time.sleep(0.1)
    raise SystemExit(f"the cloud did not start; its log:\n{log.read_text()}")


def _run(command: str, *arguments: str) -> None:
    """Runs one of our commands in the foreground; the demo ends where it fails."""
    status = subprocess.run([BIN / command, *arguments], env=_outside(), check=False).returncode
    if status:
        raise SystemExit(f"{command} {' '.join(arguments[:2])} ended with {status}")


def _outside() -> dict[str, str]:
    """The environment without settings of another cloud, its admin token above all."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")}


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """One of our commands in the background until the block ends."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [BIN / command[0], *command[1:]], env=environment, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
