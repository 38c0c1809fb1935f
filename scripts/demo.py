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
RECIPE = {"epochs": 12, "patience": 3, "holdout_users": 0.1}
"""Of the demo: the defaults of a job, but for a shorter training and users to replay."""


def main() -> int:
    """Runs the demo. Gives the exit status."""
    options = _options()
    begun = time.monotonic()
    options.store.mkdir(parents=True, exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")},
        "CLOUD_STORE": str(options.store),
        "CLOUD_SERVE_REPLAYS": "true",
    }
    recipe = dict(RECIPE)
    if options.data:
        environment["CLOUD_DATA_FOLDER"] = str(_data_folder(options))
        recipe["data"] = options.data.name
        if options.items:
            recipe["items"] = options.items.name
    log = options.store / "demo.log"
    with (
        _process(["cloud-service", "serve", "--port", "0"], environment, log) as cloud,
        _process(["cloud-service", "worker"], environment, options.store / "worker.log"),
    ):
        url = _address(cloud, log)
        print(f"cloud at {url} (its API: {url}/docs)", flush=True)
        if options.retrain or not _serves(url, recipe):
            _run("cloud-service", "jobs", "submit", "--url", url, "--wait", *_flags(recipe))
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
    for path in filter(None, (options.data, options.items)):
        (folder / path.name).symlink_to(path.resolve())
    return folder


def _flags(recipe: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items()]


def _serves(url: str, recipe: dict[str, object]) -> bool:
    """Whether the store holds a model of this data already."""
    answer = httpx.get(f"{url}/v1/models/production")
    if answer.status_code != httpx.codes.OK:
        return False
    name = json.loads(answer.content)["data"]["name"]
    same: bool = name == str(recipe.get("data", "synthetic")).split(".")[0]
    if same:
        print(f"the store has a model of {name} already (--retrain trains anew)", flush=True)
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
    status = subprocess.run([BIN / command, *arguments], check=False).returncode
    if status:
        raise SystemExit(f"{command} {' '.join(arguments[:2])} ended with {status}")


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
    sys.exit(main())
