"""The whole system, end to end: train, export, serve, rerank on devices, measure the correction.

Starts a cloud and a worker as separate processes, submits a training job and waits for it. Then
simulated devices replay users that the model has never seen, and a report is written. All started
processes are stopped at the end. The store is kept: the next run with the same data serves the
existing model (--retrain trains a new one). Each log has its own model.

Training ends when validation stops improving. A large log is sampled by user, so that this takes
minutes (--all-clicks reads all of it).

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
from typing import Any

import httpx

BIN = Path(sys.executable).parent
RECIPE = {"holdout_users": 0.1, "patience": 8, "minutes": 8.0}
"""What differs from a job's defaults: users held out to replay, and when training ends. With less
patience the gain on a generated log was +4.2%; converged it is +3.0%. If the minutes are over
before validation stops improving, job and report say so, and the report gives no verdict."""
MAX_CLICKS = 300_000
"""A larger log is sampled by user. With this many clicks, validation stops improving within about
two minutes on two cores."""

MADE = "demo.json"
"""File in the store: the data and recipe of the demo's models, by version."""
MODEL_OPTION = "--model"
"""Option of `device-client simulate`: a version or an alias."""


def main() -> int:
    """Runs the demo. Returns the exit status."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped, too
    begun = time.monotonic()
    options.store.mkdir(parents=True, exist_ok=True)
    environment = {
        **_outside(),
        "CLOUD_STORE": str(options.store),
        "CLOUD_SERVE_REPLAYS": "true",
    }
    recipe: dict[str, object] = dict(RECIPE)
    if not options.all_clicks:
        recipe["max_clicks"] = MAX_CLICKS
    if options.data:
        environment["CLOUD_DATA_FOLDER"] = str(_data_folder(options))
        recipe["data"] = options.data.name
        if options.items:
            recipe["items"] = _items_name(options)
        recipe |= {n: v for n in ("columns", "ties") if (v := getattr(options, n))}
    log = options.store / "demo.log"
    with (
        _process(["cloud-service", "serve", "--port", "0"], environment, log) as cloud,
        _process(["cloud-service", "worker"], environment, options.store / "worker.log"),
    ):
        url = _address(cloud, log)
        print(f"cloud at {url} (its API: {url}/docs)", flush=True)
        made = {"clicks": _digest(options.data, options.items), "recipe": recipe}
        record = options.store / MADE
        alias = None if options.retrain else _alias_of(url, record, made)
        if alias is None:
            alias = _train(url, recipe, options.store, made, always=options.retrain)
        _describe(url, alias)
        simulated = [f"--report={options.report}", f"--bundles={options.store / 'bundles'}"]
        simulated += [f"{MODEL_OPTION}={alias}"]
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
    parser.add_argument("--columns", help="user=NAME,item=NAME,time=NAME, where it names them so")
    parser.add_argument(
        "--ties", help="file: clicks that share a time are in their order (else they are shuffled)"
    )
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--report", type=Path, default=Path("report"))
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="even if there is such a model, and serve the new one",
    )
    parser.add_argument("--all-clicks", action="store_true", help="train on all of a large log")
    parser.add_argument("simulate", nargs="*", help="further options of device-client simulate")
    return parser.parse_args()


def _path(text: str) -> Path | None:
    """Returns an existing file, or None for an empty text (an unset variable of make)."""
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}: check the path")
    return path


def _data_folder(options: argparse.Namespace) -> Path:
    """Makes a folder with links to the log and the item file, the only data that jobs can name."""
    folder: Path = options.store / "demo-data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / options.data.name).symlink_to(options.data.resolve())
    if options.items:
        (folder / _items_name(options)).symlink_to(options.items.resolve())
    return folder


def _items_name(options: argparse.Namespace) -> str:
    """The item file's name, with a prefix if it equals the log's."""
    same = options.items.name == options.data.name
    return f"items-{options.items.name}" if same else options.items.name


def _flags(recipe: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items()]


def _digest(*paths: Path | None) -> str:
    """SHA-256 over the contents of the files."""
    found = hashlib.sha256()
    for path in filter(None, paths):
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


def _train(
    url: str, recipe: dict[str, object], store: Path, made: dict[str, object], *, always: bool
) -> str:
    """Trains a model, records its data and recipe, and returns the alias of its log."""
    options = [f"--store={store}", *(["--promote=always"] if always else [])]  # the admin token's
    _run("cloud-service", "jobs", "submit", "--url", url, "--wait", *options, *_flags(recipe))
    job = httpx.get(f"{url}/v1/jobs", params={"limit": 1}).raise_for_status().json()[0]
    alias = str(_models(url)[job["version"]]["log_alias"])
    # That of the job, or an older one of this log that ranks better.
    serving = httpx.get(f"{url}/v1/models/{alias}").raise_for_status().headers["model-version"]
    record = store / MADE
    records = _records(record) | {job["version"]: made | {"serving": serving}}
    record.write_text(json.dumps(records), "utf-8")
    return alias


def _alias_of(url: str, record: Path, made: dict[str, object]) -> str | None:
    """Returns the alias whose model the demo trained from the same clicks and recipe. None if there
    is none, or if another model was promoted since."""
    models = _models(url)
    for known in _records(record).values():
        serving = models.get(known.pop("serving", ""))
        if serving and known == made and serving["log_alias"] in serving["aliases"]:
            print(
                f"{serving['log_alias']} is version {serving['version']}, trained on these clicks "
                "or ranking them no worse (--retrain trains anew)",
                flush=True,
            )
            return str(serving["log_alias"])
    return None


def _describe(url: str, alias: str) -> None:
    """Prints what the model was trained on: all users, or a sample."""
    data = httpx.get(f"{url}/v1/models/{alias}").raise_for_status().json()["data"]
    print(
        f"{alias}: trained on {data['users']:,} users and {data['clicks']:,} of their clicks; "
        f"{data['preprocessing']}",
        flush=True,
    )


def _models(url: str) -> dict[str, dict[str, Any]]:
    """The cloud's description of every model, by version."""
    return {m["version"]: m for m in httpx.get(f"{url}/v1/models").raise_for_status().json()}


def _records(record: Path) -> dict[str, Any]:
    """The records of earlier runs; empty if the file is missing or has an older format."""
    try:
        records = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    known = records.items() if isinstance(records, dict) else ()
    return {version: made for version, made in known if isinstance(made, dict)}


def _address(cloud: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and cloud.poll() is None:
        for line in log.read_text().splitlines():
            if "running on http://" in line:
                return line.split("running on ")[1].split()[0]
        time.sleep(0.1)
    raise SystemExit(f"the cloud did not start; its log:\n{log.read_text()}")


def _run(command: str, *arguments: str) -> None:
    """Runs one of our commands in the foreground. Raises SystemExit if it fails."""
    status = subprocess.run([BIN / command, *arguments], env=_outside(), check=False).returncode
    if status:
        raise SystemExit(f"{command} {' '.join(arguments[:2])} ended with {status}")


def _outside() -> dict[str, str]:
    """The environment without the settings of another cloud, such as its admin token."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")}


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs one of our commands in the background until the block ends."""
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
