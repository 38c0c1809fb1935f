"""`device-client`: pull a bundle, rerank for one user, simulate many devices."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from device_client.commands import Commands, add_budget, add_command, add_found_commands, budget_of
from shared.errors import RecommendationError


def main(arguments: Sequence[str] | None = None) -> int:
    """The console command. Returns 0, or 2 after printing one line about the error."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (RecommendationError, ValueError, RuntimeError, OSError) as error:
        print(f"device-client: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("device-client: stopped", file=sys.stderr)
        return 130


def entry() -> None:
    """Runs `main` and exits with its return value."""
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="device-client",
        description="The device of a device-cloud recommender: reranks locally, corrected by "
        "the cloud when that is in time.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_program_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_pull(commands)
    _add_rerank(commands)
    _add_learn(commands)
    add_found_commands(commands)
    return parser


def _program_version() -> str:
    try:
        return version("device-cloud-recommendation")
    except PackageNotFoundError:  # run from a folder of sources, not installed
        return "of an unknown version: it is not installed as a package"


def _add_pull(commands: Commands) -> None:
    add_command(
        commands,
        "pull",
        _pull,
        "Download a bundle and check it; goes on where a download was cut off.",
        "device-client pull --url http://127.0.0.1:8000 --bundles bundles",
    )


def _pull(options: argparse.Namespace) -> int:
    from device_client.cloud import Cloud

    with Cloud(options.url) as cloud:
        print(cloud.pull(options.bundles, options.model, _show_download))
    return 0


def _show_download(name: str, done: int, size: int) -> None:
    if sys.stderr.isatty():
        line_end = "\n" if done >= size else ""
        share = 100 * done / max(size, 1)
        print(f"\r{name:24} {share:5.1f}% of {size:,} B", end=line_end, file=sys.stderr)


def _add_rerank(commands: Commands) -> None:
    command = add_command(
        commands,
        "rerank",
        _rerank,
        "Rerank for one user, with the correction and without side by side.",
        "device-client rerank --clicks 85123A 22423 47566 --top 10",
    )
    who = command.add_mutually_exclusive_group(required=True)
    who.add_argument("--clicks", nargs="+", metavar="ID", help="catalogue ids, oldest first")
    who.add_argument(
        "--user", type=int, metavar="N", help="the N-th held-out user of the cloud (from 0)"
    )
    command.add_argument(
        "--candidates", nargs="+", metavar="ID", help="ids to rank (default: ask the cloud)"
    )
    command.add_argument("--count", type=int, default=100, help="candidates to ask for (100)")
    command.add_argument("--top", type=int, default=10, help="places to show (default 10)")
    command.add_argument(
        "--offline", action="store_true", help="no cloud: the newest bundle in --bundles"
    )
    add_budget(command)


def _rerank(options: argparse.Namespace) -> int:
    from device_client.terminal import rerank_one

    return rerank_one(options, budget_of(options), _show_download)


def _add_learn(commands: Commands) -> None:
    command = add_command(
        commands,
        "learn",
        _learn,
        "Learn from the clicks in a store on this device; show what it knows, or forget it.",
        "device-client learn --store clicks --clicks 85123A 22423",
    )
    command.add_argument(
        "--store", type=Path, required=True, metavar="FOLDER", help="the device's store of clicks"
    )
    command.add_argument(
        "--clicks", nargs="+", metavar="ID", help="catalogue ids to add first, oldest first"
    )
    command.add_argument(
        "--budget-ms", type=float, default=1000.0, help="time to learn for, in ms (default 1000)"
    )
    command.add_argument(
        "--offline", action="store_true", help="no cloud: the newest bundle in --bundles"
    )
    command.add_argument(
        "--forget", action="store_true", help="erase the store instead: no trace of its user stays"
    )


def _learn(options: argparse.Namespace) -> int:
    from device_client.learning.command import learn_one

    return learn_one(options, _show_download)
