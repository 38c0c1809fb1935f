"""The options of `device-client simulate`."""

import argparse
from pathlib import Path
from typing import Final

from device_client.commands import INSTALL, Commands, add_budget, add_command, budget_of

DEFAULT_PROFILES: Final = "loopback,4g-5,4g-15,5g-50,5g-100,wifi-home,5g-typical,lte-typical"


def add_simulate(commands: Commands) -> None:
    """Adds `simulate` to the commands of `device-client`."""
    command = add_command(
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
    add_budget(command)


def _simulate(options: argparse.Namespace) -> int:
    try:
        from experiments.simulation.command import simulate
    except ModuleNotFoundError as error:
        raise RuntimeError(f"simulating needs {error.name}: {INSTALL['simulate']}") from error
    return simulate(options, budget_of(options))
