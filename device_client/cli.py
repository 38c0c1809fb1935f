"""`device-client`: pull a bundle, rerank for one user, simulate many devices."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from device_client.correction.budget import DEFAULT_BUDGET_MS, Budget
from shared.errors import RecommendationError

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_PROFILES = "loopback,4g-5,4g-15,5g-50,5g-100,wifi-home,5g-typical,lte-typical"
_BUNDLES = Path("bundles")


def main(arguments: Sequence[str] | None = None) -> int:
    """The console command. Gives 0, or 2 after one line that says what is wrong."""
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
    """Runs `main` and exits with what it gives."""
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
    _add_simulate(commands)
    return parser


def _program_version() -> str:
    try:
        return version("device-cloud-recommendation")
    except PackageNotFoundError:  # run from a folder of sources, not installed
        return "of an unknown version: it is not installed as a package"


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
    example: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=help_text,
        description=help_text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--url",
        default=os.environ.get("CLOUD_URL") or DEFAULT_URL,
        help=f"the cloud's address (default: CLOUD_URL of the environment, else {DEFAULT_URL})",
    )
    command.add_argument(
        "--model",
        default="production",
        metavar="VERSION|ALIAS",
        help="the model, by its version or by an alias (default: production, the one in use)",
    )
    command.add_argument(
        "--bundles", type=Path, default=_BUNDLES, help="where bundles are kept (default bundles/)"
    )
    return command


def _add_budget(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--budget-ms",
        type=float,
        default=DEFAULT_BUDGET_MS,
        help=f"tolerance from H, in ms (default {DEFAULT_BUDGET_MS}, the paper's)",
    )
    command.add_argument(
        "--timeout-s", type=float, default=2.0, help="a request is given up after this (default 2)"
    )


def _budget(options: argparse.Namespace) -> Budget:
    return Budget(options.budget_ms, options.timeout_s)


def _add_pull(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    _command(
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
        end = "\n" if done >= size else ""
        share = 100 * done / max(size, 1)
        print(f"\r{name:24} {share:5.1f}% of {size:,} B", end=end, file=sys.stderr)


def _add_rerank(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(
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
    _add_budget(command)


def _rerank(options: argparse.Namespace) -> int:
    from device_client.terminal import rerank_one

    return rerank_one(options, _budget(options), _show_download)


def _add_simulate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(
        commands,
        "simulate",
        _simulate,
        "Simulate many devices over named networks, and report what corrections are worth and "
        "cost.",
        "device-client simulate --devices 40 --rate 100 --profiles loopback,4g-5,lte-typical",
    )
    command.add_argument(
        "--profiles", default=DEFAULT_PROFILES, help=f"comma-separated (default {DEFAULT_PROFILES})"
    )
    command.add_argument("--list-profiles", action="store_true", help="describe them and stop")
    command.add_argument("--devices", type=int, default=60, help="devices at once (default 60)")
    command.add_argument(
        "--rate", type=float, default=150.0, help="clicks a second over all devices (default 150)"
    )
    command.add_argument(
        "--requests", type=int, default=1200, help="reranks per network (default 1,200)"
    )
    command.add_argument(
        "--longest", type=int, default=10, help="clicks replayed of one user (default: the last 10)"
    )
    command.add_argument("--candidates", type=int, default=100, help="list length (default 100)")
    command.add_argument(
        "--think",
        default="both",
        metavar="WHEN",
        help="when a list is reranked: at the click (none), after a human pause (human), both of "
        "the same clicks (both; default), or so many ms after the click",
    )
    command.add_argument(
        "--pauses",
        type=Path,
        metavar="CSV",
        help="a click log (user_id, timestamp in seconds) whose users pause as yours do (default: "
        "pauses of MovieLens 100K)",
    )
    command.add_argument(
        "--form",
        default="full",
        help="the correction on the wire: full (4,160 B, as the paper; default), row (416 B), "
        "full-half or row-half (H and correction in float16); several, comma-separated, to compare",
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--report", type=Path, default=Path("report"), help="where the report goes (report/)"
    )
    _add_budget(command)


def _simulate(options: argparse.Namespace) -> int:
    try:
        from experiments.simulation.command import simulate
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"simulating needs {error.name}: pip install 'device-cloud-recommendation[simulate]'"
        ) from error
    return simulate(options, _budget(options))
